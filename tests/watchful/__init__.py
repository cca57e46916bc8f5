"""What deploy/ tells Prometheus and Grafana: alerts, dashboard, and their expressions."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from processes import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "seqsvr.json"
PROMTOOL_INSTALL_LINE = "apt-get install --no-install-recommends prometheus"
_NAME = re.compile(r"\b(?:seqsvr|process)_[a-z0-9_]+\b")
_SELECTOR = re.compile(r"\b((?:seqsvr|process)_[a-z0-9_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"')
_PARTS = ("_bucket", "_count", "_sum", "_total")


def promtool() -> str:
    """Its path. A missing one is a failure with the line that installs it."""
    found = shutil.which("promtool")
    assert found, f"promtool is missing: {PROMTOOL_INSTALL_LINE}"
    return found


@dataclass(frozen=True)
class Alert:
    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


def alerts() -> list[Alert]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def panels() -> Iterator[Any]:
    """Those that show something, rows left out."""
    return (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    """Of alerts and dashboard; Grafana's variables are replaced by what they may stand for."""
    shown = (target["expr"] for panel in panels() for target in panel["targets"])
    plain = [e.replace("$__rate_interval", "1m").replace("$instance", ".*") for e in shown]
    return [alert.expr for alert in alerts()] + plain


def family(name: str) -> str:
    """The family of which a series is a part."""
    return next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)


def names(expression: str) -> set[str]:
    """Families of ours that it reads."""
    return {family(name) for name in _NAME.findall(re.sub(r'"[^"]*"', '""', expression))}


def matched(expression: str) -> set[tuple[str, str]]:
    """(family, label) of its matchers."""
    return {
        (family(name), label)
        for name, inner in _SELECTOR.findall(expression)
        for label in _MATCHER.findall(inner)
    }


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    lines = (line for line in page.read_text().splitlines() if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in lines}
