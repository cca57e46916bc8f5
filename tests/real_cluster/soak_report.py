"""A soak as one HTML file to look at, and as a table for a terminal.

Pure: measurements in, text out. The file holds all that it needs: no script, no font, no address.
"""

from collections.abc import Iterator

from real_cluster.measured import Contradiction, Measured, Round, Tally
from real_cluster.report_style import STYLE
from real_cluster.svg import element, said
from real_cluster.timeline import MARKED, timeline
from real_cluster.timeline_bands import GROUPS
from real_cluster.timeline_view import clock, milliseconds

STRIP_S = 300.0
"""Runs longer than this and a bit have closer looks at their parts, of at least this length."""
MOST_STRIPS = 24

_NONE = '<td class="none">-</td>'


def report(measured: Measured) -> str:
    """The file."""
    body = "".join(_sections(measured))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>soak {measured.seed}: {said(_headline(measured)[1])}</title>"
        f"<style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def _sections(measured: Measured) -> Iterator[str]:
    yield (
        f"<h1>Soak of seqsvr, seed <b>{measured.seed}</b>, {said(measured.began)}, "
        f"{clock(measured.length_s)} {'h' if measured.length_s >= 3600 else 'min'}</h1>"
    )
    yield _verdict(measured)
    yield _figures(measured)
    if measured.contradictions:
        yield _card("What broke", _broken(measured))
    picture = timeline(measured, 0, max(measured.length_s, 1))
    yield _card("Timeline", _legend() + picture + "".join(_strips(measured)))
    yield _card("By fault", _by_fault(measured))
    yield _card("Round by round", _rounds(measured))
    yield _card("The same again", _again(measured))


def _card(heading: str, content: str) -> str:
    return f'<section class="card"><h2>{said(heading)}</h2>{content}</section>\n'


# -- on top


def _headline(measured: Measured) -> tuple[str, str]:
    """Its class, and the verdict in a few words."""
    count = _violations(measured)
    if count:
        return "bad", _plural(count, "violation")
    if measured.ended == "violation":
        return "bad", "A promise was broken"
    if measured.ended == "failed":
        return "warn", "No violation, but the run failed"
    if measured.ended == "interrupted":
        return "warn", "No violation until it was interrupted"
    if measured.ended == "running":
        return "warn", "No violation so far"
    return "good", "No promise was broken"


def _violations(measured: Measured) -> int:
    found = sum(check.violations for check in measured.checks)
    return max(found, len(measured.contradictions))


def _verdict(measured: Measured) -> str:
    class_, headline = _headline(measured)
    sign = {"good": "✓", "warn": "!", "bad": "✗"}[class_]
    more = (
        f"{_many(measured.checked)} calls of {measured.processes} processes checked. "
        f"{_plural(len(measured.rounds), 'round')} of {_plural(len(measured.kinds), 'kind')} "
        "of fault."
    )
    trouble = "" if measured.contradictions else _trouble(measured.trouble)
    return (
        f'<div class="verdict {class_}" role="status"><div class="sign" aria-hidden="true">{sign}'
        f"</div><div><strong>{said(headline)}</strong><span>{said(more)}{trouble}</span></div></div>"
    )


def _trouble(text: str) -> str:
    """Its first line, and all of it for who wants to know."""
    first, _, rest = text.partition("\n")
    if not first:
        return ""
    more = f"<details><summary>all it said</summary><pre>{said(text)}</pre></details>"
    return f"<br><code>{said(first[:300])}</code>{more if rest or len(first) > 300 else ''}"


def _figures(measured: Measured) -> str:
    calls = measured.answered + measured.failed
    share = f"{100 * measured.failed / calls:.2f} %" if calls else "none"
    moved = sum(sum(owning.gained.values()) for owning in measured.ownings)
    gap_s = max((one.longest_gap_s for one in measured.rounds), default=0.0)
    figures = [
        (_many(measured.answered), "calls answered"),
        (_many(measured.failed), f"calls failed, {share}"),
        (f"{gap_s:.1f} s", "longest gap of a uid"),
        (milliseconds(measured.latencies.quantile_ms(0.5)), "p50 of all answers"),
        (milliseconds(measured.latencies.quantile_ms(0.99)), "p99 of all answers"),
        (_many(sum(len(one.strikes) for one in measured.rounds)), "faults"),
        (_many(moved), "owner changes"),
    ]
    tiles = "".join(
        f'<div class="figure"><b>{said(value)}</b><span>{said(what)}</span></div>'
        for value, what in figures
    )
    return f'<div class="figures">{tiles}</div>'


def _broken(measured: Measured) -> str:
    """Those that the picture marks; the others for who wants to know."""
    cards = list(_contradictions(measured))
    shown, more = "".join(cards[:MARKED]), "".join(cards[MARKED:])
    if not more:
        return shown
    total = _violations(measured)
    summary = f"{_many(len(cards) - MARKED)} more of {_many(total)}"
    return f"{shown}<details><summary>{summary}</summary>{more}</details>"


def _contradictions(measured: Measured) -> Iterator[str]:
    several = len(measured.contradictions) > 1
    for number, one in enumerate(measured.contradictions, start=1):
        rows = "".join(_call_rows(one, str(number) if several else ""))
        whom = "" if one.uid is None else f", uid {one.uid}"
        yield (
            f'<div class="violation-card"><h3>{said(one.promise)}{whom}: {said(one.text)}</h3>'
            f'<div class="calls">{rows}</div></div>'
        )


def _call_rows(one: Contradiction, number: str) -> Iterator[str]:
    if not one.calls:
        yield f'<span class="letter">{number}!</span><span>{clock(one.at_s, 3)}</span>'
        yield "<span>seen by a caller</span>"
    for letter, call in zip("ABCDEFGH", one.calls, strict=False):
        when = f"{clock(call.began_s, 4)} to {clock(call.answered_s, 4)}"
        yield f'<span class="letter">{number}{letter}</span><span>{when}</span>'
        yield f"<span>{said(call.said)}</span>"


# -- the picture


def _legend() -> str:
    return (
        '<p class="soft">Bands are faults by what they hit, numbered as below; their pale ends '
        "last until every uid has an answer again. The lanes of nodes show how many sections each "
        "one owned; a tick is a change. The mouse tells more.</p>"
    )


def _strips(measured: Measured) -> Iterator[str]:
    """A long run closer, part by part."""
    if measured.length_s <= 1.2 * STRIP_S:
        return
    strip_s = max(STRIP_S, measured.length_s / MOST_STRIPS)
    from_s = 0.0
    while from_s < measured.length_s:
        to_s = min(from_s + strip_s, measured.length_s)
        inside = [one for one in measured.rounds if from_s <= one.began_s < to_s]
        numbers = f", rounds {inside[0].number} to {inside[-1].number}" if inside else ""
        summary = f"{clock(from_s)} to {clock(to_s)}{numbers}"
        yield (
            f"<details><summary>Closer: {said(summary)}</summary>"
            f"{timeline(measured, from_s, to_s)}</details>"
        )
        from_s = to_s


# -- tables


def _by_fault(measured: Measured) -> str:
    rows = list(_fault_rows(measured))
    gap_s = max((tally.longest_gap_s for _, tally, _ in rows), default=0.0) or 1.0
    failed = max((tally.failed for _, tally, _ in rows), default=0) or 1
    body = "".join(
        f"<tr><td>{_dot(tally.group)}{said(name)}</td>"
        f"{_cells(tally, violations, gap_s, failed)}</tr>"
        for name, tally, violations in rows
    )
    heads = ("fault", "runs", "longest gap", "failed calls", "of", "p99", "violations")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        '<p class="soft">Figures are of rounds with one fault; <i>+1</i> says how many more a '
        "fault shared with another one. A round lasts until every uid has an answer again.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot>{_total(measured)}</tfoot></table></div>"
    )


def _fault_rows(measured: Measured) -> Iterator[tuple[str, Tally, int]]:
    """By what is hit, the longest gaps first; rounds of two faults at the end."""
    single: dict[str, int] = {}
    company = 0
    for one in measured.rounds:
        count = one.violations
        if len(one.strikes) == 1:
            kind = one.strikes[0].kind
            single[kind] = single.get(kind, 0) + count
        else:
            company += count
    order = {group: place for place, group in enumerate(GROUPS)}
    for name, tally in sorted(
        measured.kinds.items(),
        key=lambda item: (order.get(item[1].group, 99), -item[1].longest_gap_s, item[0]),
    ):
        yield name, tally, single.get(name, 0)
    if measured.company.runs:
        yield "two faults at once", measured.company, company


def _cells(tally: Tally, violations: int, most_gap_s: float, most_failed: int) -> str:
    company = f' <span class="soft">+{tally.in_company}</span>' if tally.in_company else ""
    if not tally.runs:
        return f"<td>0{company}</td>" + _NONE * 5
    gap = _meter(tally.longest_gap_s / most_gap_s, "")
    fail = _meter(tally.failed / most_failed, " fail")
    return (
        f"<td>{tally.runs}{company}</td><td>{gap}{tally.longest_gap_s:.1f} s</td>"
        f"<td>{fail}{_many(tally.failed)}</td><td>{_many(tally.answered + tally.failed)}</td>"
        f"<td>{milliseconds(tally.latencies.quantile_ms(0.99))}</td>{_count(violations)}"
    )


def _total(measured: Measured) -> str:
    gap_s = max((one.longest_gap_s for one in measured.rounds), default=0.0)
    return (
        f"<tr><td>whole run</td><td>{len(measured.rounds)}</td><td>{gap_s:.1f} s</td>"
        f"<td>{_many(measured.failed)}</td>"
        f"<td>{_many(measured.answered + measured.failed)}</td>"
        f"<td>{milliseconds(measured.latencies.quantile_ms(0.99))}</td>"
        f"{_count(_violations(measured))}</tr>"
    )


def _rounds(measured: Measured) -> str:
    body = "".join(_round_row(measured, one) for one in measured.rounds)
    heads = ("at", "fault", "held", "flowed after", "longest gap", "failed", "p99", "violations")
    head = "".join(
        f"<th{' class=left' * (name == 'fault')}>{name}</th>" for name in ("no.", *heads)
    )
    return (
        f"<details><summary>{_plural(len(measured.rounds), 'round')}</summary>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></details>"
    )


def _round_row(measured: Measured, one: Round) -> str:
    held = after = _NONE
    if one.healed_s is not None:
        held = f"<td>{one.healed_s - one.began_s:.1f} s</td>"
        if one.flowing_s is not None:
            after = f"<td>{one.flowing_s - one.healed_s:.1f} s</td>"
    dots = "".join(_dot(strike.group) for strike in one.strikes)
    return (
        f"<tr><td>{one.number}</td><td>{clock(one.began_s)}</td>"
        f'<td class="left wide">{dots}{said(one.what)}</td>{held}{after}'
        f"<td>{one.longest_gap_s:.1f} s</td><td>{_many(one.failed)}</td>"
        f"<td>{milliseconds(one.p99_ms)}</td>{_count(one.violations)}</tr>"
    )


def _again(measured: Measured) -> str:
    facts = "".join(
        f"<dt>{said(name)}</dt><dd>{said(f)}</dd>" for name, f in measured.facts.items()
    )
    return (
        f'<p class="again"><code>{said(measured.again)}</code></p>'
        '<p class="soft">The seed plans the faults, their order and length, and the dice for whom '
        "they hit. How many fit into the time, and what runs at that moment, is up to the machine."
        f"</p><dl>{facts}</dl>"
    )


def _dot(group: str) -> str:
    return element("span", " ", class_=f"dot of-{group}").replace("> <", "><")


def _meter(share: float, class_: str) -> str:
    width = f"{82 * share:.0f}"
    return f'<span class="track"><span class="meter{class_}" style="width:{width}px"></span></span>'


def _count(violations: int) -> str:
    return f'<td class="{"broken" if violations else "none"}">{violations}</td>'


def _many(count: int) -> str:
    """12345 as 12 345, with a narrow space that does not break."""
    return f"{count:,}".replace(",", "\u202f")


def _plural(count: int, noun: str) -> str:
    return f"{_many(count)} {noun}{'s' * (count != 1)}"


# -- for a terminal


def table(measured: Measured) -> str:
    """The table by fault, as Markdown."""
    lines = ["| fault | runs | longest gap, s | calls | failed | p99, ms | violations |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, tally, violations in _fault_rows(measured):
        runs = f"{tally.runs} +{tally.in_company}" if tally.in_company else str(tally.runs)
        if not tally.runs:
            lines.append(f"| {name} | {runs} | - | - | - | - | - |")
            continue
        lines.append(
            f"| {name} | {runs} | {tally.longest_gap_s:.1f} | {tally.answered + tally.failed} "
            f"| {tally.failed} | {tally.latencies.quantile_ms(0.99):.0f} | {violations} |"
        )
    gap_s = max((one.longest_gap_s for one in measured.rounds), default=0.0)
    lines.append(
        f"| **whole run** | {len(measured.rounds)} | {gap_s:.1f} "
        f"| {measured.answered + measured.failed} | {measured.failed} "
        f"| {measured.latencies.quantile_ms(0.99):.0f} | {_violations(measured)} |"
    )
    return "\n".join(lines)
