"""deploy/, checked by the tools that need neither a cluster nor an engine, and against the code."""

import json
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from allocsvr.__main__ import LINGER_S
from deployed import Described, compose, kubernetes, systemd
from deployed.described import of_program, seconds, substituted
from deployed.tools import DEPLOY, composed, kustomized, manifests, output, tool
from processes import ROOT
from svrprocess.cluster_map import CLOSE_S
from svrprocess.options import parse

OVERLAYS = ("example", "first-start")
PROGRAMS = ("storesvr", "allocsvr", "arbitersvr")
EXPOSURE = 15
"""Tenths, of systemd's own scale from 0 to 100; a unit without any of it has 96."""


def every_description() -> Iterator[tuple[str, Described]]:
    yield from (("systemd", one) for one in systemd.described())
    yield from (("compose", one) for one in compose.described())
    for overlay in OVERLAYS:
        yield from ((overlay, one) for one in kubernetes.described(overlay))


# -- systemd


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """With programs where the units expect them."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    made = []
    for name in systemd.UNITS:
        (binaries / name).write_text("#!/bin/sh\n")
        (binaries / name).chmod(0o755)
        text = (DEPLOY / "systemd" / f"{name}.service").read_text()
        made.append(tmp_path / f"{name}.service")
        made[-1].write_text(text.replace("/opt/seqsvr/bin", str(binaries)))
    return made


def test_units_say_nothing_that_systemd_does_not_understand(units: list[Path]) -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if any(unit.name in line for unit in units)]
    assert (done.returncode, said) == (0, [])


def test_units_are_hardened(units: list[Path]) -> None:
    for unit in units:
        output(
            *(tool("systemd-analyze"), "security", "--no-pager"),
            *("--offline=true", f"--threshold={EXPOSURE}", unit),
        )


# -- the image


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    output(tool("hadolint"), "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_image_is_made_of_what_the_wheel_is_made_of_and_nothing_else() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    packages = re.search(r"^packages = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    assert set(copied) == {
        *(package.partition("/")[0] for package in json.loads(packages[1])),
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE"),
    }
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = re.findall(r"^USER (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["65532:65532"]


# -- compose


def test_the_compose_file_keeps_to_its_schema_and_a_wrong_one_would_not(tmp_path: Path) -> None:
    assert set(composed()["volumes"]) == {"etcd", "store-0", "store-1", "store-2"}
    wrong = (DEPLOY / "compose" / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(wrong.replace("read_only:", "readonly:"))
    with pytest.raises(AssertionError, match="readonly"):
        composed(tmp_path / "compose.yaml")


def test_stores_of_compose_make_their_files_only_when_told_to() -> None:
    stores = of_program(compose.described(), "storesvr")
    assert len(stores) == 3
    assert all("--create" not in one.argv and "SEQSVR_CREATE" not in one.environ for one in stores)


# -- Kubernetes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid_to_the_letter(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(kustomized(overlay))
    output(tool("kubernetes-validate"), "--strict", "--quiet", path)


def test_a_misspelt_manifest_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(kustomized("example").replace("minReadySeconds", "minReadySecond"))
    with pytest.raises(AssertionError, match="minReadySecond"):
        output(tool("kubernetes-validate"), "--strict", "--quiet", path)


def pods(overlay: str) -> list[tuple[str, Any]]:
    """Name -> pod template, of all workloads."""
    return [
        (one["metadata"]["name"], one["spec"]["template"])
        for one in manifests(overlay)
        if one["kind"] in kubernetes.WORKLOADS
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_locked_down_and_runs_one_and_the_same_image(overlay: str) -> None:
    images = set()
    for name, template in pods(overlay):
        spec = template["spec"]
        (container,) = spec["containers"]
        images.add(container["image"])
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert container["resources"]["limits"].keys() == {"memory"}, name
    assert len(images) == 1
    assert not any(image.endswith(":latest") or ":" not in image for image in images)


def test_stores_make_their_files_only_at_the_first_start() -> None:
    for overlay in OVERLAYS:
        stores = of_program(kubernetes.described(overlay), "storesvr")
        assert {"--create" in one.argv for one in stores} == {overlay == "first-start"}


def test_every_set_of_pods_is_disrupted_one_at_a_time() -> None:
    held = manifests("example")
    sets = {n: t["metadata"]["labels"] for n, t in pods("example")}
    budgets = [one["spec"] for one in held if one["kind"] == "PodDisruptionBudget"]
    for name, labels in sets.items():
        (budget,) = (b for b in budgets if b["selector"]["matchLabels"].items() <= labels.items())
        assert budget["maxUnavailable"] == 1, name


def test_liveness_asks_whether_the_process_is_alive_and_nothing_that_etcd_has_a_part_in() -> None:
    for _, one in every_description():
        assert all(probe.service == "" for probe in one.probes if probe.alive), one.name


def test_stores_are_reached_by_nodes_arbiters_and_seqctl_only() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in manifests("first-start")
        if one["kind"] == "NetworkPolicy"
    }
    allowed = [
        component
        for rule in policies["storesvr"]["ingress"]
        if rule["ports"] == [{"port": 7421}]
        for peer in rule["from"]
        for expression in peer["podSelector"]["matchExpressions"]
        if expression["key"] == "app.kubernetes.io/component"
        for component in expression["values"]
    ]
    assert sorted(allowed) == ["allocsvr", "arbitersvr", "seqctl"]
    for name, template in pods("first-start"):
        labels = template["metadata"]["labels"]
        component = labels["app.kubernetes.io/component"]
        chosen = [
            p
            for p in policies.values()
            if p["podSelector"]["matchLabels"].items() <= labels.items()
        ]
        assert len(chosen) == (component != "seqctl"), f"{name}: one policy, and its own"


# -- against the programs


def test_no_description_has_an_option_that_its_program_does_not_know(tmp_path: Path) -> None:
    seen = set()
    for where, one in every_description():
        if one.program not in PROGRAMS:
            continue
        seen.add((where, one.program))
        argv = list(one.argv)
        for path, content in one.files.items():
            (tmp_path / Path(path).name).write_text(content)
            argv = [str(tmp_path / Path(path).name) if arg == path else arg for arg in argv]
        options = import_module(f"{one.program}.__main__").OPTIONS
        args = parse(one.program, "", options, argv, one.environ)
        port = {"storesvr": 7421, "allocsvr": 7420, "arbitersvr": 7422}[one.program]
        assert args.listen.endswith(f":{port}"), one.name
        assert all(probe.port == port for probe in one.probes), one.name
    assert len(seen) == 4 * len(PROGRAMS)


def test_everybody_has_the_time_to_stop_that_it_may_take() -> None:
    stores, nodes, arbiters = (import_module(f"{program}.__main__") for program in PROGRAMS)
    for where, one in every_description():
        needed_s = {
            "storesvr": stores.GRACE_S + 5,
            "allocsvr": _drain_s(one, nodes) + LINGER_S + 2 * CLOSE_S + 5,
            "arbitersvr": import_module("arbitersvr.arbiter").RESIGN_S + CLOSE_S + arbiters.GRACE_S,
        }.get(one.program, 0.0)
        assert one.stop_signal == "SIGTERM"
        assert one.stop_s >= one.before_stop_s + needed_s, f"{where}: {one.name}"


def _drain_s(one: Described, nodes: Any) -> float:
    """As it is told, or as it is by itself."""
    told = " ".join([*one.argv, *one.files.values()])
    found = re.search(r"drain-s\s*=\s*([\d.]+)", told)
    default = next(option.default for option in nodes.OPTIONS if option.name == "drain-s")
    return float(found[1]) if found else float(default)


# -- the reading itself


def test_addresses_are_substituted_whole_and_nothing_else_is() -> None:
    hosts = {"store-0": "127.9.9.1", "etcd": "127.9.9.2", "store-0.stores": "127.9.9.3"}
    text = "http://etcd:2379,store-0:1,store-0.stores:2,my-etcd:3,0.0.0.0:4 --replica store-0"
    assert substituted(text, "127.9.9.9", hosts, "/tmp/x") == (
        "http://127.9.9.2:2379,127.9.9.1:1,127.9.9.3:2,my-etcd:3,127.9.9.9:4 --replica store-0"
    )


def test_times_are_read_as_they_are_written() -> None:
    assert [seconds(text) for text in ("15", "15s", "1m0s", "1min 30s", 60)] == [15, 15, 60, 90, 60]


def test_every_yaml_file_is_part_of_what_is_checked() -> None:
    held = {path.name for path in (DEPLOY / "kubernetes").rglob("*.yaml")}
    named = {
        Path(resource).name
        for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml")
        for resource in yaml.safe_load(path.read_text())["resources"]
        if resource.endswith(".yaml")
    }
    assert held == named | {"kustomization.yaml"}
