"""deploy/, checked by the tools that need neither a cluster nor an engine, and against the code."""

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from allocsvr.__main__ import LINGER_S
from deployed import Described, compose, kubernetes, systemd
from deployed.described import CERTS, of_program, seconds, substituted
from deployed.tools import DEPLOY, composed, kustomized, manifests, output, tool
from processes import ROOT
from seqctl.__main__ import _parser
from seqctl.certs_issuing import LEAVES, ROLE_URI
from svrprocess.cluster_map import CLOSE_S
from svrprocess.options import parse

OVERLAYS = ("example", "first-start")
CLUSTER_AND_OPERATOR = (*OVERLAYS, "operator")
CERT_MANAGER = "cert-manager.io/v1"
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
    assert set(composed()["volumes"]) == {"certs", "etcd", "store-0", "store-1", "store-2"}
    wrong = (DEPLOY / "compose" / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(wrong.replace("read_only:", "readonly:"))
    with pytest.raises(AssertionError, match="readonly"):
        composed(tmp_path / "compose.yaml")


def test_stores_of_compose_make_their_files_only_when_told_to() -> None:
    stores = of_program(compose.described(), "storesvr")
    assert len(stores) == 3
    assert all("--create" not in one.argv and "SEQSVR_CREATE" not in one.environ for one in stores)


# -- Kubernetes


@pytest.mark.parametrize("overlay", CLUSTER_AND_OPERATOR)
def test_manifests_are_valid_to_the_letter(overlay: str, tmp_path: Path) -> None:
    """Kinds that it has no schema of would only be warned about: they are checked below."""
    path = tmp_path / "all.yaml"
    own = [one for one in manifests(overlay) if one["apiVersion"] != CERT_MANAGER]
    path.write_text(yaml.safe_dump_all(own))
    assert output(tool("kubernetes-validate"), "--strict", "--quiet", path) == ""


def test_a_misspelt_manifest_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(kustomized("example").replace("minReadySeconds", "minReadySecond"))
    with pytest.raises(AssertionError, match="minReadySecond"):
        output(tool("kubernetes-validate"), "--strict", "--quiet", path)


def pods(overlay: str) -> list[tuple[str, Any]]:
    """Name -> pod template, of all workloads and of what is a pod by itself."""
    held = manifests(overlay)
    made = [(one, one["spec"]["template"]) for one in held if one["kind"] in kubernetes.WORKLOADS]
    made += [(one, one) for one in held if one["kind"] == "Pod"]
    return [(one["metadata"]["name"], template) for one, template in made]


@pytest.mark.parametrize("overlay", CLUSTER_AND_OPERATOR)
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


# -- certificates

WORDS, TEXT = list[str], str
ISSUED: dict[str, Any] = {
    "secretName": TEXT,
    "commonName": TEXT,
    "duration": TEXT,
    "renewBefore": TEXT,
    "isCA": bool,
    "privateKey": {"algorithm": TEXT, "size": int, "rotationPolicy": TEXT},
    "usages": WORDS,
    "uris": WORDS,
    "dnsNames": WORDS,
    "ipAddresses": WORDS,
    "issuerRef": {"name": TEXT, "kind": TEXT},
}
"""Of a Certificate's specification, what is in use here (cert-manager's API reference, v1)."""


def check_fields(where: str, value: Any, known: Any) -> None:
    """Strictly: what is not known here is a fault."""
    if isinstance(known, dict):
        assert isinstance(value, dict) and value.keys() <= known.keys(), f"{where}: {value}"
        for name, inner in value.items():
            check_fields(f"{where}.{name}", inner, known[name])
    elif known is WORDS:
        assert isinstance(value, list) and all(isinstance(one, str) for one in value), where
    else:
        assert type(value) is known, where


def of_cert_manager(kind: str) -> dict[str, Any]:
    """Name -> specification."""
    held = [one for one in manifests("example") if one["apiVersion"] == CERT_MANAGER]
    assert {one["kind"] for one in held} == {"Issuer", "Certificate"}
    return {one["metadata"]["name"]: one["spec"] for one in held if one["kind"] == kind}


def test_resources_of_cert_manager_are_as_it_knows_them() -> None:
    issuers = of_cert_manager("Issuer")
    for name, spec in issuers.items():
        check_fields(name, spec, {"selfSigned": {}, "ca": {"secretName": TEXT}})
    for name, spec in of_cert_manager("Certificate").items():
        check_fields(name, spec, ISSUED)
        assert spec["issuerRef"]["kind"] == "Issuer" and spec["issuerRef"]["name"] in issuers
        assert spec["secretName"] == name, "who mounts it looks for this name"
        assert spec["privateKey"]["algorithm"] == "ECDSA"
        if not spec.get("isCA"):
            assert hours(spec["renewBefore"]) * 3 <= hours(spec["duration"]) <= 24 * 90
            assert spec["privateKey"]["rotationPolicy"] == "Always"
    with pytest.raises(AssertionError, match="dnsName"):
        check_fields("one", {"dnsName": ["a"]}, ISSUED)


def hours(text: str) -> int:
    assert text.endswith("h")
    return int(text[:-1])


def test_certificates_of_cert_manager_are_for_what_those_of_seqctl_are() -> None:
    issued = of_cert_manager("Certificate")
    for leaf in LEAVES:
        if leaf.name == "etcd":
            continue  # whoever runs etcd makes it
        if leaf.name == "reader":
            continue  # made like an allocator's
        spec = issued[f"seqsvr-{leaf.name}"]
        assert ("server auth" in spec["usages"]) is leaf.serves
        assert ("client auth" in spec["usages"]) is leaf.calls
        assert spec.get("uris", []) == ([ROLE_URI + leaf.role] if leaf.role else [])
        assert bool(spec.get("dnsNames")) is leaf.serves


def test_certificates_name_all_hosts_that_servers_are_called_by() -> None:
    issued = of_cert_manager("Certificate")
    for program, at in (("storesvr", ":7421"), ("allocsvr", ":7420")):
        certificate = issued["seqsvr-peer" if program == "storesvr" else "seqsvr-server"]
        for one in of_program(kubernetes.described("example"), program):
            assert any(fnmatch(one.hosts[2], name) for name in certificate["dnsNames"])
            told = next((arg for arg in one.argv if arg.startswith("--advertise=")), one.hosts[2])
            assert told.removeprefix("--advertise=").removesuffix(at) == one.hosts[2]
    (init,) = of_program(kubernetes.described("first-start"), "seqctl")
    stores = {
        f"{one.hosts[2]}:7421" for one in of_program(kubernetes.described("example"), "storesvr")
    }
    assert set(init.argv[-1].rpartition("=")[2].split(",")) == stores


def test_pods_mount_every_file_that_they_are_told_to_read() -> None:
    for overlay in CLUSTER_AND_OPERATOR:
        held = manifests(overlay)
        maps = {one["metadata"]["name"]: one["data"] for one in held if one["kind"] == "ConfigMap"}
        for name, template in pods(overlay):
            (container,) = template["spec"]["containers"]
            told = {e["name"]: e.get("value", "") for e in container.get("env", ())}
            for source in container.get("envFrom", ()):
                told = maps[source["configMapRef"]["name"]] | told
            files = {value for value in told.values() if value.startswith(CERTS)}
            if name == "storesvr":  # it has nothing to do with etcd
                files = {file for file in files if "/etcd" not in file}
            if name == "seqsvr-init":  # and this serves nobody
                files = {v for k, v in told.items() if v in files and k in OF_SEQCTL}
            mounted = kubernetes.mounted(template["spec"])
            assert files <= mounted.keys(), f"{overlay}: {name}"
            keys = {secret for path, secret in mounted.items() if path.endswith(".key")}
            assert all(secret.endswith("/tls.key") for secret in keys)
            assert template["spec"]["securityContext"]["fsGroup"] == 65532, (
                "or it may not read them"
            )
            for volume in template["spec"]["volumes"]:
                assert volume.get("projected", {"defaultMode": 0o440})["defaultMode"] == 0o440


OF_SEQCTL = {"SEQSVR_CA", "SEQSVR_CERT", "SEQSVR_KEY", "SEQSVR_ETCD_CA"} | {
    "SEQSVR_ETCD_CERT",
    "SEQSVR_ETCD_KEY",
}


def test_compose_makes_certificates_for_every_host_before_anybody_reads_them() -> None:
    services = composed()["services"]
    argv = services["certs"]["command"]
    args = _parser(["certs"]).parse_args(argv[1:])
    assert str(args.folder) == CERTS
    reading = {name for name, one in services.items() if name != "certs" and "volumes" in one}
    assert {*args.hosts} == reading - {"init"}
    for name in reading:
        (at,) = (one for one in services[name]["volumes"] if one["target"] == CERTS)
        assert at["read_only"] is True, name
        assert "certs" in everybody_before(services, name), name


def everybody_before(services: Any, name: str) -> set[str]:
    direct = set(services[name].get("depends_on", ()))
    return direct.union(*(everybody_before(services, one) for one in direct))


def test_every_description_has_tls_on_every_link(tmp_path: Path) -> None:
    for where, one, args in parsed_programs(tmp_path):
        assert not args.insecure, f"{where}: {one.name}"
        for prefix in ("", "peer_"):
            names = ("cert_file", "key_file", "trusted_ca_file", "client_cert_auth")
            given = [getattr(args, prefix + name) for name in names]
            assert all(given), f"{where}: {one.name} {prefix}"
        if "etcd" in args:
            assert args.etcd_ca and args.etcd_cert and args.etcd_key, f"{where}: {one.name}"


# -- against the programs


def parsed_programs(tmp_path: Path) -> Iterator[tuple[str, Described, argparse.Namespace]]:
    """Each server, with what its options come to."""
    for where, one in every_description():
        if one.program not in PROGRAMS:
            continue
        argv = list(one.argv)
        for path, content in one.files.items():
            (tmp_path / Path(path).name).write_text(content)
            argv = [str(tmp_path / Path(path).name) if arg == path else arg for arg in argv]
        options = import_module(f"{one.program}.__main__").OPTIONS
        yield where, one, parse(one.program, "", options, argv, one.environ)


def test_no_description_has_an_option_that_its_program_does_not_know(tmp_path: Path) -> None:
    seen = set()
    for where, one, args in parsed_programs(tmp_path):
        seen.add((where, one.program))
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
