"""The soak's report: one file that needs nothing else, with the verdict on top."""

import re
from html.parser import HTMLParser

import pytest

from made_soaks import broken, made
from real_cluster import soak_report
from real_cluster.measured import Contradiction, Measured
from real_cluster.report_style import STYLE
from real_cluster.soak_report import report, table

_NEVER_CLOSED = {"meta", "br"}


class Page(HTMLParser):
    """Text by tag; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [pair for pair in attrs if pair[0] in ("src", "href", "srcset", "action")]
        if tag not in _NEVER_CLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.mark.parametrize("measured", [made(60), broken(made(60)), made(400), made(0)])
def test_it_needs_nothing_from_anywhere_and_runs_nothing(measured: Measured) -> None:
    text = report(measured)
    page = Page(text)
    assert not page.links
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "://" not in text and "@import" not in text and "url(" not in text


def test_it_looks_right_in_light_and_dark() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\(--([a-z0-9-]+)", STYLE)) - {"own"}
    for scheme in (light, dark.split("* {")[0]):
        assert used <= set(re.findall(r"--([a-z0-9-]+):", scheme))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_can_be_read_on_what_is_behind_it(scheme: int) -> None:
    part = STYLE.split("@media (prefers-color-scheme: dark)")[scheme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", part))
    groups = ("owners", "replicas", "etcd", "arbiters", "callers", "everything")
    pairs = [("ink", "page"), ("ink", "card"), ("soft", "page"), ("soft", "card"), ("bad", "card")]
    pairs += [("good", "good-back"), ("bad", "bad-back"), ("warn", "warn-back"), ("on", "bad")]
    pairs += [("on", group) for group in groups] + [(group, "card") for group in groups]
    pairs += [("on-low", f"held-{i}") for i in (1, 2, 3)]
    pairs += [("on-high", f"held-{i}") for i in (4, 5)]
    low = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: value for pair, value in low.items() if value < 4.5} == {}


def test_the_verdict_comes_first_and_says_what_it_is() -> None:
    good, bad = report(made(60)), report(broken(made(60)))
    assert "No promise was broken" in good and 'class="verdict good"' in good
    assert "1 violation" in bad and 'class="verdict bad"' in bad
    assert bad.index("1 violation") < bad.index("What broke") < bad.index('class="timeline"')
    assert "handed 8, epoch 4 (b.jsonl:7)" in bad


@pytest.mark.parametrize(
    ("ended", "said"),
    [("interrupted", "interrupted"), ("failed", "the run failed"), ("running", "so far")],
)
def test_a_run_that_did_not_get_to_its_end_does_not_look_like_one_that_did(
    ended: str, said: str
) -> None:
    measured = made(60)
    measured.ended, measured.trouble = ended, "AssertionError: <node> ended\nits log"  # type: ignore[assignment]
    text = report(measured)
    assert 'class="verdict warn"' in text and said in text
    assert "&lt;node&gt; ended" in text and "<node>" not in text


def test_what_only_a_caller_noticed_is_told_too() -> None:
    measured = made(60)
    measured.contradictions.append(Contradiction("SEQ-1", None, "handed 5 after 5", 12.0))
    assert "1 violation" in report(measured) and "seen by a caller" in report(measured)


def test_seed_and_command_are_in_it() -> None:
    text = report(made(60))
    assert "seed <b>42</b>" in text and "make soak MINUTES=1 SEED=42" in text


def test_the_table_has_each_kind_its_rounds_alone_and_those_of_two_apart() -> None:
    lines = table(broken(made(60))).splitlines()
    assert re.fullmatch(
        r"\| owner: kill -9 \| 4 \+2 \| 1.5 \| 388 \| 28 \| 9\d\d \| 0 \|", lines[2]
    )
    assert lines[3].startswith("| replica: <frozen> | 0 +2 |")
    assert lines[4].startswith("| two faults at once | 2 | 1.5 | 194 | 14 |")
    assert lines[4].endswith("| 1 |"), "the violation was in one of them"
    assert lines[5].startswith("| **whole run** | 6 |") and lines[5].endswith("| 1 |")


def test_a_long_run_can_be_looked_at_closer_and_a_short_one_is_close_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soak_report, "STRIP_S", 30.0)
    monkeypatch.setattr(soak_report, "MOST_STRIPS", 6)
    assert "Closer:" not in report(made(35))
    assert report(made(100)).count("Closer:") == 4
    assert report(made(300)).count("Closer:") == 6
