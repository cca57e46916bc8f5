"""Alerts and dashboard by themselves: they parse, fire when they should, and are written about."""

import subprocess
from pathlib import Path

import yaml

from processes import ROOT
from watchful import PROMETHEUS, alerts, dashboard, expressions, headings, panels, promtool


def run(*arguments: object) -> None:
    command = [promtool(), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_alert_fires_on_its_series_and_is_quiet_on_others() -> None:
    run("test", "rules", *sorted(PROMETHEUS.glob("*_test.yml")))


def test_each_alert_has_series_that_make_it_fire_and_some_that_do_not() -> None:
    fires: list[str] = []
    quiet: list[str] = []
    for file in PROMETHEUS.glob("*_test.yml"):
        for case in yaml.safe_load(file.read_text())["tests"]:
            for wanted in case["alert_rule_test"]:
                (fires if wanted["exp_alerts"] else quiet).append(wanted["alertname"])
    known = sorted(alert.name for alert in alerts())
    assert sorted(fires) == known
    assert sorted(quiet) == known


def test_prometheus_takes_the_rules_and_the_sample_configuration() -> None:
    run("check", "rules", PROMETHEUS / "alerts.yml")
    run("check", "config", PROMETHEUS / "prometheus.yml")


def test_each_alert_says_how_bad_it_is_and_leads_to_its_entry_in_operations() -> None:
    anchors = headings(ROOT / "docs" / "OPERATIONS.md")
    for alert in alerts():
        assert alert.labels["severity"] in ("page", "ticket"), alert.name
        assert {"summary", "description", "runbook"} == alert.annotations.keys(), alert.name
        page, _, anchor = alert.annotations["runbook"].partition("#")
        assert (page, anchor) == ("docs/OPERATIONS.md", alert.name.lower())
        assert anchor in anchors, f"{alert.name} has no entry in {page}"


def test_each_entry_of_an_alert_says_what_callers_see_what_to_look_at_and_what_to_do() -> None:
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    for alert in alerts():
        entry = page.partition(f"### {alert.name}\n")[2].partition("\n#")[0]
        heads = [line.split(":")[0] for line in entry.splitlines() if ":" in line]
        for head in ("Callers see", "Look at", "Do", "Worry"):
            assert head in heads, f"{alert.name} lacks {head!r}"


def test_no_entry_is_about_an_alert_that_does_not_exist() -> None:
    anchors = headings(ROOT / "docs" / "OPERATIONS.md")
    known = {alert.name.lower() for alert in alerts()}
    assert {anchor for anchor in anchors if anchor.startswith("seqsvr")} == known


def test_expressions_of_alerts_and_dashboard_parse(tmp_path: Path) -> None:
    rules = [{"record": f"x:{at}", "expr": e} for at, e in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    run("check", "rules", file)


def test_the_dashboard_is_sound() -> None:
    whole = dashboard()
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"]: variable for variable in whole["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    titles = set()
    for panel in panels():
        assert panel["description"], panel["title"]
        titles.add(panel["title"])
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len(titles) > 40


def test_panels_of_the_dashboard_do_not_overlap_and_fit() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
