"""A small file system of its own, in a mount namespace: full disks and read-only ones.

Needs root, or a kernel that lets users make user namespaces.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

_ADVICE = (
    "this test needs a mount namespace: run it as root (in a container: --cap-add SYS_ADMIN), or "
    "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, and on newer kernels "
    "kernel.apparmor_restrict_unprivileged_userns=0); unshare and nsenter come with util-linux"
)


class Namespace:
    """A mount namespace, held by a process of ours until `close`.

    mounts: shell commands that run in it first.
    """

    def __init__(self, mounts: str) -> None:
        for tool in ("unshare", "nsenter"):
            assert shutil.which(tool), f"no {tool} found: {_ADVICE}"
        root = os.geteuid() == 0
        user = [] if root else ["--user", "--map-root-user"]
        self._user = [] if root else ["--user", "--preserve-credentials"]
        self._holder = subprocess.Popen(
            ["unshare", *user, "--mount", "sh", "-ec", f"{mounts}\necho held\nexec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"held\n":
            _, error = self._holder.communicate()
            raise AssertionError(f"{error.decode().strip()}: {_ADVICE}")

    @property
    def entering(self) -> list[str]:
        """Put before a command, it runs in the namespace, in the same process."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", *self._user]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.entering, *command], capture_output=True, text=True, timeout=60
        )

    def fill(self, file: Path) -> None:
        """Take all the space that is left in the file system of `file`."""
        filled = self.run("dd", "if=/dev/zero", f"of={file}", "bs=4096")
        assert "No space left" in filled.stderr, filled.stderr

    def close(self) -> None:
        """End the holder; the mounts go with the last process in the namespace."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        deadline_s = time.monotonic() + 5
        while self._holder.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
