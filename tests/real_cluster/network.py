"""Hosts that can be cut off from each other: a network namespace each, and a router between them.

Every host has one cable to the router, addresses 10.99.i.1 (router) and 10.99.i.2 (host). A cut is
a rule of the router that drops what one host sends to another, silently, as a broken network does:
no refusal, no reset, nothing but time tells. Cuts are one-way; two of them make a cable's.

Namespaces have no names: each is held by a process of ours and is gone with the last process in it,
so runs side by side do not meet and a crash leaves nothing behind. Needs root, or a kernel that
lets users make user namespaces.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable

_ADVICE = (
    "this test needs network namespaces: run it as root (in a container: --cap-add SYS_ADMIN "
    "--cap-add NET_ADMIN), or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "and on newer kernels kernel.apparmor_restrict_unprivileged_userns=0)"
)
_TOOLS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
_DROP = 100
"""Preference of the rules that drop: before those that every router has."""


class Host:
    """A host of a Network."""

    def __init__(self, name: str, index: int, holder: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.ip = f"10.99.{index}.2"
        self.gateway = f"10.99.{index}.1"
        self._holder = holder

    @property
    def entering(self) -> list[str]:
        """Put before a command, it runs on this host, in the same process."""
        return _entering(self._holder.pid)

    def close(self) -> None:
        _end(self._holder)


class Network:
    """Hosts without any cut between them, at first."""

    def __init__(self) -> None:
        for tool, package in _TOOLS.items():
            assert _found(tool), f"no {tool} found: apt install {package}"
        self._hosts: list[Host] = []
        self._cuts: dict[tuple[str, str], tuple[Host, Host]] = {}
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._router = _hold(["unshare", *user, "--net"], "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def host(self, name: str) -> Host:
        """One more host."""
        index = len(self._hosts) + 1
        holder = _hold([*_entering(self._router.pid), "unshare", "--net"], "true")
        host = Host(name, index, holder)
        self._hosts.append(host)
        inside = f"c{index}"
        self._ip(
            self._router.pid,
            f"link add v{index} type veth peer name {inside} netns {holder.pid}",
            f"address add {host.gateway}/30 dev v{index}",
            f"link set v{index} up",
        )
        self._ip(
            holder.pid,
            "link set lo up",
            f"address add {host.ip}/30 dev {inside}",
            f"link set {inside} up",
            f"route add default via {host.gateway}",
        )
        return host

    def cut(self, sender: Host, *receivers: Host) -> None:
        """From now on nothing that `sender` sends arrives at the receivers."""
        new = {(sender.ip, host.ip): (sender, host) for host in receivers}
        fresh = {key: pair for key, pair in new.items() if key not in self._cuts}
        self._rules("add", fresh)
        self._cuts |= fresh

    def cut_both(self, one: Host, *others: Host) -> None:
        """Nothing arrives in either direction."""
        self.cut(one, *others)
        for other in others:
            self.cut(other, one)

    def mend(self) -> None:
        """Take every cut back."""
        self._rules("del", self._cuts)
        self._cuts = {}

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        _end(self._router)

    def _rules(self, verb: str, pairs: Iterable[tuple[str, str]]) -> None:
        rules = [f"rule {verb} pref {_DROP} from {a} to {b} blackhole" for a, b in pairs]
        if rules:
            self._ip(self._router.pid, *rules)

    def _ip(self, pid: int, *commands: str) -> None:
        done = subprocess.run(
            [*_entering(pid), _found("ip") or "ip", "-batch", "-"],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{done.stderr.strip()}: {commands}: {_ADVICE}"


def _found(tool: str) -> str | None:
    # `ip` lies in /usr/sbin, which is not on every user's PATH.
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _entering(pid: int) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--net"]


def _hold(enter: list[str], setup: str) -> "subprocess.Popen[bytes]":
    """A process in a namespace of its own, until its standard input ends (or we do)."""
    holder = subprocess.Popen(
        [*enter, "sh", "-ec", f"{setup}\necho held\nexec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C on the test run is not meant for it
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != b"held\n":
        _, error = holder.communicate()
        raise AssertionError(f"{error.decode().strip()}: {_ADVICE}")
    return holder


def _end(holder: "subprocess.Popen[bytes]") -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    deadline_s = time.monotonic() + 5
    while holder.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.002)
    holder.kill()
    holder.wait()
    for pipe in (holder.stdout, holder.stderr):
        if pipe is not None:
            pipe.close()
