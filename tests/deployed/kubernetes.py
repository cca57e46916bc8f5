"""Manifests: every pod of their sets, as the kubelet would run it."""

import re
from collections.abc import Mapping
from typing import Any

from deployed.described import Described, asked
from deployed.tools import manifests

WORKLOADS = ("StatefulSet", "Deployment", "Job")


def described(overlay: str) -> list[Described]:
    """Pods of all workloads of an overlay; those of a StatefulSet have names in the DNS."""
    held = manifests(overlay)
    maps = {one["metadata"]["name"]: one["data"] for one in held if one["kind"] == "ConfigMap"}
    return [
        _pod(one, f"{one['metadata']['name']}-{index}", maps)
        for one in held
        if one["kind"] in WORKLOADS
        for index in range(one["spec"].get("replicas", 1))
    ]


def _pod(workload: Any, name: str, maps: Mapping[str, Mapping[str, str]]) -> Described:
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    namespace = workload["metadata"]["namespace"]
    fields = {"metadata.name": name, "metadata.namespace": namespace}
    own = {
        e["name"]: e["value"] if "value" in e else fields[e["valueFrom"]["fieldRef"]["fieldPath"]]
        for e in container.get("env", ())
    }
    environ: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        environ |= maps[source["configMapRef"]["name"]]
    environ |= own
    program, *argv = [_expanded(arg, environ) for arg in container["args"]]
    domain = workload["spec"].get("serviceName")
    hosts = (name, f"{name}.{domain}", f"{name}.{domain}.{namespace}.svc") if domain else (name,)
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    return Described(
        program,
        tuple(argv),
        hosts,
        environ,
        stop_s=spec.get("terminationGracePeriodSeconds", 30),
        before_stop_s=float(before[1]) if before else 0.0,
        probes=tuple(
            asked(found["exec"]["command"], alive=kind == "livenessProbe")
            for kind in ("livenessProbe", "readinessProbe")
            if (found := container.get(kind))
        ),
    )


def mounted(pod: Any) -> dict[str, str]:
    """Path in the container -> key of which Secret, of a pod's specification."""
    (container,) = pod["containers"]
    at = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", ())}
    return {
        f"{at[volume['name']]}/{item['path']}": f"{source['secret']['name']}/{item['key']}"
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        for item in source["secret"]["items"]
    }


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: environ[found[1]], text)
