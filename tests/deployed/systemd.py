"""Units, and the configuration that stands beside them."""

from deployed.described import Described, Probe, seconds
from deployed.tools import DEPLOY

UNITS = ("storesvr", "allocsvr", "arbitersvr")
_ETC = "/etc/seqsvr/"


def unit(name: str) -> dict[str, list[str]]:
    """Key -> its values, of all sections together."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / f"{name}.service").read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def described() -> list[Described]:
    """Three stores, two nodes and two arbiters, on hosts that follow those of the examples."""
    return [
        *(
            _one("storesvr", "10.0.0.4", f"10.0.0.{4 + i}", ("store-0", f"store-{i}"))
            for i in (0, 1, 2)
        ),
        *(_one("arbitersvr", "10.0.0.7", host) for host in ("10.0.0.7", "10.0.0.17")),
        *(_one("allocsvr", "10.0.0.8", host) for host in ("10.0.0.8", "10.0.0.9")),
    ]


def _one(name: str, example: str, host: str, replica: tuple[str, str] = ("", "")) -> Described:
    held = unit(name)
    binary, *argv = held["ExecStart"][0].replace("%S/", "/var/lib/").split()
    files = {}
    for path in argv:
        if path.startswith(_ETC):
            text = (DEPLOY / "systemd" / "etc" / path.removeprefix(_ETC)).read_text()
            files[path] = text.replace(example, host).replace(*replica)
    return Described(
        binary.removeprefix("/opt/seqsvr/bin/"),
        tuple(argv),
        (host,),
        environ={
            key: value for path in held.get("EnvironmentFile", ()) for key, value in _settings(path)
        },
        stop_signal=held["KillSignal"][0],
        stop_s=seconds(held["TimeoutStopSec"][0]),
        probes=(Probe({"storesvr": 7421, "allocsvr": 7420, "arbitersvr": 7422}[name], "", True),),
        notifies=held["Type"] == ["notify"],
        files=files,
    )


def _settings(path: str) -> list[tuple[str, str]]:
    text = (DEPLOY / "systemd" / "etc" / path.removeprefix(_ETC)).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]
