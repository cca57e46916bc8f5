"""The compose file, as docker-compose understands it."""

from typing import Any

from deployed.described import Described, Probe, asked, seconds
from deployed.tools import composed


def described() -> list[Described]:
    """Every service, under its name."""
    return [_one(name, service) for name, service in composed()["services"].items()]


def _one(name: str, service: Any) -> Described:
    program, *argv = service["command"]
    return Described(
        program,
        tuple(argv),
        (name,),
        environ={k: v for k, v in (service.get("environment") or {}).items() if v},
        stop_signal=service.get("stop_signal", "SIGTERM"),
        stop_s=seconds(service.get("stop_grace_period", "10s")),
        probes=_probes(service.get("healthcheck", {}).get("test", ())),
    )


def _probes(test: list[str]) -> tuple[Probe, ...]:
    if test[1:2] == ["etcdctl"]:
        return (Probe(2379, "", alive=False),)  # etcd, too, has the health service of gRPC
    return (asked(test[1:], alive=False),) if test[1:3] == ["seqctl", "health"] else ()
