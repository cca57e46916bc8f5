"""Floods of one node of a RealCluster, by what it can do: not the same on any two machines."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from processes import ROOT
from real_cluster.cluster import RealCluster, address_of
from real_cluster.program import Program, python, surroundings

TIMES = 10
"""As much is offered as what the node answers when it is asked by few, so many times over."""

CAPACITY_S = 2.0
SHAPES = {
    "single calls": (("--connections", "1"), ("--connections", "32")),
    "Sessions": (
        ("--connections", "1", "--sessions", "4", "--batch", "4096"),
        ("--connections", "8", "--sessions", "100", "--batch", "4096"),
    ),
}
"""By kind: how to find out what it can do, and how it is flooded."""


def uids_beside(uids: Sequence[int], section_size: int) -> list[int]:
    """Of the same sections, but such as nobody records: what a flood gets is not known."""
    first = [uid // section_size * section_size for uid in uids]
    return [section + place for section in first for place in range(10, 40)]


def capacities(cluster: RealCluster, node: Program, uids: Sequence[int]) -> dict[str, float]:
    """By kind: messages per second that it answers when it is asked for as many as it likes."""
    found = {}
    for kind, (few, _) in SHAPES.items():
        asked = _started(cluster, node, uids, CAPACITY_S, 100_000, few)
        said = json.loads(asked.communicate(timeout=60)[0].splitlines()[-1])
        found[kind] = said["answered"] / CAPACITY_S
    return found


class Floods:
    """All kinds at once, from now on; nice, for they share the cores with what they flood."""

    def __init__(
        self,
        cluster: RealCluster,
        node: Program,
        uids: Sequence[int],
        seconds: float,
        per_s: Mapping[str, float],
    ) -> None:
        self._running = {
            kind: _started(cluster, node, uids, seconds, TIMES * per_s[kind], shape)
            for kind, (_, shape) in SHAPES.items()
        }

    def said(self) -> dict[str, Any]:
        """By kind: the figures of the whole, once they have ended."""
        whole = {kind: flood.communicate(timeout=60)[0] for kind, flood in self._running.items()}
        return {kind: json.loads(text.splitlines()[-1]) for kind, text in whole.items()}

    def close(self) -> None:
        for flood in self._running.values():
            flood.kill()
            flood.wait()


def _started(
    cluster: RealCluster,
    node: Program,
    uids: Sequence[int],
    seconds: float,
    per_s: float,
    shape: Sequence[str],
) -> "subprocess.Popen[str]":
    command = python("flooding.program", "--addr", address_of(node), "--seconds", seconds, *shape)
    command += ["--uids", ",".join(map(str, uids)), "--per-s", str(per_s)]
    return subprocess.Popen(
        ["nice", *cluster.client.entering, *command],
        env=surroundings(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
