"""Memory and start-up of a node that owns the whole uid space of 2^32."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

from scaling import capacity
from scaling.servers import Cluster, Embedded, settled_b
from scaling.traffic import stream
from seqsvr.sections import MAX_BATCH, SECTION_SIZE, Layout

SECTIONS = Layout().sections
WARM = 30
"""Sections that are touched first: until then the heap gives back what the start left over."""
DENSE = 50
MID_SECTIONS, MID_UIDS = 500, 100

Figures = dict[str, float]


def measure(folder: Path, *, quick: bool = False) -> Figures:
    """Bytes and seconds by name. quick: a hundredth of the uid space, and no cluster."""
    limit = SECTIONS // 100 * SECTION_SIZE if quick else 2**32
    dense = 3 if quick else DENSE
    figures: Figures = {"sections": Layout(uid_limit=limit).sections}
    with Embedded(folder / "dense", limit) as up:
        figures["ready_s"] = up.ready_s
        figures["ready_cpu_s"] = up.ready_cpu_s
        figures["idle_b"] = settled_b(up.pid)
        uids, grown = asyncio.run(_grown(up, _dense(dense)))
        figures |= {"dense_uids": uids, "dense_b": grown / uids}
    with Embedded(folder / "sparse", limit) as up:
        uids, grown = asyncio.run(_grown(up, _sparse(int(figures["sections"]))))
        figures |= {"sparse_uids": uids, "sparse_b": grown / uids}
    with Embedded(folder / "mid", limit) as up:
        sections = min(MID_SECTIONS, int(figures["sections"]) - WARM)
        _, grown = asyncio.run(_grown(up, _mid(sections)))
        figures |= {"mid_sections": sections, "mid_b": grown / sections}
    if not quick:
        with Cluster(folder / "three") as cluster:
            figures["cluster_ready_s"] = cluster.ready_s
            figures["cluster_ready_cpu_s"] = cluster.ready_cpu_s
            figures["cluster_idle_b"] = max(map(settled_b, cluster.node_pids))
            figures["store_idle_b"] = max(settled_b(store.pid) for store in cluster.stores)
    return figures


def table(figures: Figures) -> str:
    """Markdown."""
    rows = [
        ("node idle, `seqctl up`", f"{figures['idle_b'] / 1e6:.0f} MB", "<= 150 MB"),
        (
            "until it serves, `seqctl up`, blank data",
            f"{figures['ready_s']:.1f} s ({figures['ready_cpu_s']:.1f} s of CPU)",
            "",
        ),
    ]
    if "cluster_idle_b" in figures:
        rows += [
            ("node idle, `allocsvr`", f"{figures['cluster_idle_b'] / 1e6:.0f} MB", "<= 150 MB"),
            ("each of its three `storesvr`", f"{figures['store_idle_b'] / 1e6:.0f} MB", ""),
            (
                "until `allocsvr` serves all",
                f"{figures['cluster_ready_s']:.1f} s "
                f"({figures['cluster_ready_cpu_s']:.1f} s of its CPU)",
                "",
            ),
        ]
    rows += [
        (
            f"per uid, {figures['dense_uids']:,.0f} uids dense",
            f"{figures['dense_b']:.2f} B",
            "<= 9 B",
        ),
        ("per uid, one in each section", f"{figures['sparse_b']:,.0f} B", ""),
        (f"per section with {MID_UIDS} uids anywhere", f"{figures['mid_b'] / 1e3:,.0f} kB", ""),
    ]
    head = f"| {figures['sections']:,.0f} sections | measured | aim |\n|---|---|---|\n"
    return head + "".join(f"| {a} | {b} | {c} |\n" for a, b, c in rows)


def checks(figures: Figures) -> list[tuple[str, float, float]]:
    """(what, as the model has it, as measured)."""
    dense = capacity.touched_b(SECTION_SIZE * 100) / SECTION_SIZE  # every page of it
    return [
        ("bytes per uid, dense", dense, figures["dense_b"]),
        ("bytes per uid, one per section", capacity.touched_b(1), figures["sparse_b"]),
        (f"bytes per section, {MID_UIDS} uids", capacity.touched_b(MID_UIDS), figures["mid_b"]),
    ]


async def _grown(up: Embedded, uids: list[int]) -> tuple[int, int]:
    """How many uids were touched, and by how much the node has grown for them."""
    async with stream(up.address) as one:
        await one.push(_cut(list(range(WARM * SECTION_SIZE))))
        before = await asyncio.to_thread(settled_b, up.pid)
        await one.push(_cut(uids))
        return len(uids), await asyncio.to_thread(settled_b, up.pid) - before


def _cut(uids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(uids), MAX_BATCH):
        yield uids[start : start + MAX_BATCH]


def _dense(sections: int) -> list[int]:
    return list(range(WARM * SECTION_SIZE, (WARM + sections) * SECTION_SIZE))


def _sparse(sections: int) -> list[int]:
    return [section * SECTION_SIZE for section in range(WARM, sections)]


def _mid(sections: int) -> list[int]:
    draw = random.Random(3)
    every = range(WARM, WARM + sections)
    places = [(s, i) for s in every for i in draw.sample(range(SECTION_SIZE), MID_UIDS)]
    return [section * SECTION_SIZE + index for section, index in places]
