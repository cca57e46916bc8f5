"""The figures of a run as pictures: against the number of callers, and over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from seqbench.cases import CALLERS

COLOURS = {
    "limit": "#666666",
    "embedded": "#0072b2",
    "embedded-tls": "#332288",
    "cluster": "#56b4e9",
    "redis-always": "#d55e00",
    "redis-everysec": "#e69f00",
    "postgres": "#009e73",
    "etcd": "#cc79a7",
}
UVLOOP = "-uvloop"
QUANTILES = {"p50_ms": "p50", "p99_ms": "p99", "p999_ms": "p99.9"}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write callers.svg, latency.svg, timeline.svg, flood.svg, as far as there are figures."""
    matplotlib.rcParams.update({"svg.hashsalt": "seqbench", "font.size": 9})
    drawn = []
    if _lines(found, "per_s"):
        drawn += [_throughput(found, folder), _latency(found, folder)]
    scenes = [scene for scene in found["timeline"] if "slices" in scene]
    if scenes:
        drawn.append(_timeline(scenes, folder))
    if found.get("flood"):
        drawn.append(_flood(found["flood"], folder))
    return drawn


def _throughput(found: dict[str, Any], folder: Path) -> Path:
    figure, axes = pyplot.subplots(figsize=(9, 5))
    for name, points in _lines(found, "per_s").items():
        _line(axes, name, points)
        callers, _, least, greatest = zip(*points, strict=True)
        axes.fill_between(callers, least, greatest, color=_colour(name), alpha=0.15)
    _against_callers(axes)
    axes.set_ylabel("numbers per second")
    axes.set_title("One number per call: median, least and greatest of the rounds")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _saved(figure, folder / "callers.svg")


def _latency(found: dict[str, Any], folder: Path) -> Path:
    figure, panels = pyplot.subplots(1, 3, figsize=(14, 4.5), sharey=True)
    for axes, (quantile, title) in zip(panels, QUANTILES.items(), strict=True):
        for name, points in _lines(found, quantile).items():
            _line(axes, name, points)
        _against_callers(axes)
        axes.set_title(title)
    panels[0].set_ylabel("milliseconds, closed loop")
    panels[2].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _saved(figure, folder / "latency.svg")


def _lines(found: dict[str, Any], figure: str) -> dict[str, list[list[float]]]:
    """For each contestant of two points or more: callers, median, least, greatest."""
    lines: dict[str, list[list[float]]] = {}
    for callers in CALLERS:
        rows = found["cases"].get(f"calls-{callers}", {"rows": {}})["rows"]
        for name, row in rows.items():
            if figure in row:
                lines.setdefault(name, []).append([float(callers), *row[figure]])
    return {name: points for name, points in lines.items() if len(points) > 1}


def _line(axes: Any, name: str, points: Sequence[Sequence[float]]) -> None:
    callers, medians = [point[0] for point in points], [point[1] for point in points]
    style = "--" if name.endswith(UVLOOP) else "-"
    axes.plot(callers, medians, style, marker="o", label=name, color=_colour(name))


def _colour(name: str) -> str:
    return COLOURS[name.removesuffix(UVLOOP)]


def _against_callers(axes: Any) -> None:
    axes.set(xscale="log", yscale="log", xlabel="callers")
    axes.set_xticks(CALLERS, [f"{callers:,}" for callers in CALLERS])
    axes.grid(True, which="both", alpha=0.25)


def _timeline(scenes: Sequence[dict[str, Any]], folder: Path) -> Path:
    figure, panels = pyplot.subplots(len(scenes), 1, figsize=(9, 3 * len(scenes)), squeeze=False)
    for axes, scene in zip(panels[:, 0], scenes, strict=True):
        seconds, middle, greatest = zip(*scene["slices"], strict=True)
        axes.plot(
            seconds, greatest, label="slowest call due in the same 20 ms", color="#d55e00", lw=0.8
        )
        axes.plot(seconds, middle, label="p50", color="#0072b2", lw=1)
        if "before_p50_ms" in scene:
            axes.axvline(0, color="black", lw=0.8, ls="--")
        axes.set(yscale="log", ylabel="ms", xlabel="seconds", title=scene["name"])
        axes.grid(True, which="both", alpha=0.25)
        axes.legend(fontsize=8)
    return _saved(figure, folder / "timeline.svg")


def _flood(found: dict[str, Any], folder: Path) -> Path:
    figure, panels = pyplot.subplots(4, 1, figsize=(9, 10), sharex=True)
    seconds, answered, failed, p99_ms, left_s, memory_mb, limited = zip(*found["rows"], strict=True)
    panels[0].plot(seconds, answered, label="answered", color="#009e73")
    panels[0].plot(seconds, failed, label="failed", color="#d55e00")
    panels[0].set(ylabel="calls per second", title="Callers that behave, on three nodes")
    panels[1].plot(seconds, p99_ms, label="p99", color="#0072b2")
    panels[1].set(ylabel="ms", yscale="log", title="The same")
    panels[2].plot(seconds, left_s, label="left of the lease", color="#cc79a7")
    panels[2].set(ylabel="seconds", ylim=(0, None), title="The node that is flooded")
    panels[3].plot(seconds, memory_mb, label="memory", color="#e69f00")
    panels[3].set(ylabel="MB", ylim=(0, None), xlabel="seconds; flooded from 0 to the second line")
    for axes in panels:
        axes.axvline(0, color="black", lw=0.8, ls="--")
        axes.axvline(found["until_s"], color="black", lw=0.8, ls="--")
        axes.grid(True, alpha=0.25)
        axes.legend(fontsize=8, loc="upper right")
    del limited
    return _saved(figure, folder / "flood.svg")


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return path
