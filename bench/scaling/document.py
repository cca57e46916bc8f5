"""Tables of the capacity model, and the document that holds what was measured."""

from dataclasses import fields
from pathlib import Path

from scaling.capacity import BUSY, Constants, Line, Load, Plan, batch_b, framed_b, plan, widest
from scaling.constants import Check

NAMES = {
    "small_us": "CPU of a node, us per batch of less than 48",
    "large_us": "CPU of a node, us per greater batch",
    "client_us": "CPU of the Python client, us per coalesced call, each a task",
    "up_b": "encoded SessionRequest, bytes",
    "down_b": "encoded SessionResponse, bytes",
    "raise_node_us": "CPU of a node, us per raise request",
    "raise_store_us": "CPU of one replica, us per raise request",
    "commit_b": "to one replica's disk, bytes per commit",
    "commit_s": "one durable commit, seconds",
    "node_b": "RSS of a node with all sections, bytes",
    "connection_b": "RSS of a node per client connection, bytes",
}
LOADS = {10**4: 10**6, 10**5: 10**7, 10**6: 10**8, 10**7: 10**9}
"""Numbers per second to active uids."""


def constants_table(constants: Constants) -> str:
    """Markdown: what the model knows."""
    rows = []
    for name in (field.name for field in fields(constants)):
        value = getattr(constants, name)
        text = (
            f"{value.per:.4g} + {value.each:.4g} x size"
            if isinstance(value, Line)
            else f"{value:.4g}"
        )
        rows.append(f"| `{name}` | {NAMES[name]} | {text} |\n")
    return "| name | what | measured |\n|---|---|---|\n" + "".join(rows)


def shapes_table(constants: Constants) -> str:
    """Markdown: bytes of a batch on the connection, and per number."""
    rows = []
    for size in (1, 16, 256, 1024):
        up, down = framed_b(constants.up_b(size)), framed_b(constants.down_b(size))
        each = batch_b(constants, size) / size
        rows.append(f"| {size:,} | {up:,.0f} | {down:,.0f} | {each:.1f} |\n")
    head = "| batch | to the node, B | from the node, B | B per number |\n|---|---|---|---|\n"
    return head + "".join(rows)


def widest_table(constants: Constants) -> str:
    """Markdown: what callers whose batches lie on all nodes can get, however many nodes."""
    rows = [
        f"| {batch:,} | {widest(constants, batch, BUSY):,.0f} |\n"
        for batch in (16, 256, 1024, 4096)
    ]
    return "| uids per call, on all nodes | numbers/s at most |\n|---|---|\n" + "".join(rows)


def checks_table(checks: list[Check]) -> str:
    """Markdown: predicted against measured."""
    rows = [
        f"| {what} | {predicted:,.4g} | {measured:,.4g} | {_ratio(predicted, measured)} |\n"
        for what, predicted, measured in checks
    ]
    head = "| what | predicted | measured | predicted / measured |\n|---|---|---|---|\n"
    return head + "".join(rows)


def examples_table(constants: Constants) -> str:
    """Markdown: four loads, with explicit batches, with coalesced calls and with bare ones."""
    rows = []
    for per_s, uids in LOADS.items():
        for name, load in {
            "batches of 256 on one node": Load(per_s, uids, batch=256),
            "calls, clients on one node": Load(per_s, uids),
            "calls, clients on all nodes": Load(per_s, uids, fan=None),
        }.items():
            rows.append(_row(f"{per_s:,}", name, plan(constants, load)))
    head = (
        "| numbers/s | asked by | mean batch | nodes | their cores | client cores | StoreSvr "
        "| raises/s | fsyncs/s, all | kB/s to a store's disk | MB per node | MB/s network "
        "| B per number | etcd writes/s |\n"
    )
    return head + "|---" * 14 + "|\n" + "".join(rows)


def _row(per_s: str, name: str, need: Plan) -> str:
    cells = [
        per_s,
        name,
        f"{need.mean_batch:.1f}",
        f"{need.nodes}",
        f"{need.node_cores:.2f}",
        f"{need.client_cores:.1f}" if need.client_cores else "-",
        f"{need.stores}",
        f"{need.raises:.3g}",
        f"{need.fsyncs:.3g}",
        f"{need.disk_store_b / 1e3:.3g}",
        f"{need.memory_node_b / 1e6:,.0f}",
        f"{need.network_b / 1e6:.3g}",
        f"{need.bytes_per_number:.1f}",
        f"<= {need.etcd_writes:g}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def _ratio(predicted: float, measured: float) -> str:
    return f"{predicted / measured:.2f}" if measured else "-"


def write_into(document: Path, parts: dict[str, str]) -> None:
    """Put each part between its own two marks. ValueError where a pair is missing."""
    text = document.read_text()
    for name, table in parts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{document} has no place for {name}")
        text = f"{head}{begin}{table}{end}{tail}"
    document.write_text(text)
