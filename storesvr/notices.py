"""Which promises a lease holder has not yet been told of.

Every rise of a promise gets the replica's next fence_version. The index keeps, for each section,
its last rise only, ordered by version: an append-only log in which an older entry of a section is
garbage as soon as a newer one is appended, and which is rewritten when half of it is garbage. So
it holds at most two entries per section, and a question costs a bisection and the answer.
"""

from bisect import bisect_right
from collections.abc import Iterable

_KEEP = 1024  # garbage below this is not worth a rewrite


class Notices:
    """The log of rises; versions must be added in rising order."""

    __slots__ = ("_entries", "_latest", "_versions")

    def __init__(self) -> None:
        self._versions: list[int] = []
        self._entries: list[tuple[int, int]] = []  # section, epoch
        self._latest: dict[int, int] = {}  # section -> version

    def __len__(self) -> int:
        return len(self._versions)

    def add(self, section: int, epoch: int, version: int) -> None:
        """Section's promise rose to `epoch` at `version`."""
        self._versions.append(version)
        self._entries.append((section, epoch))
        self._latest[section] = version
        if len(self._versions) > 2 * len(self._latest) + _KEEP:
            self._rewrite()

    def since(self, version: int) -> list[tuple[int, int, int]]:
        """(first, last, epoch) of the newest promise of every section that rose after `version`.

        By rising section; adjacent sections of one epoch are one range.
        """
        start = bisect_right(self._versions, version)
        return merged(sorted(self._live(start)))

    def _live(self, start: int) -> Iterable[tuple[int, int]]:
        latest, versions, entries = self._latest, self._versions, self._entries
        for i in range(start, len(versions)):
            if latest[entries[i][0]] == versions[i]:
                yield entries[i]

    def _rewrite(self) -> None:
        latest = self._latest
        kept = [
            (version, entry)
            for version, entry in zip(self._versions, self._entries, strict=True)
            if latest[entry[0]] == version
        ]
        self._versions = [version for version, _ in kept]
        self._entries = [entry for _, entry in kept]


def merged(points: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(section, epoch) by rising section, each once, as ranges (first, last, epoch)."""
    ranges: list[tuple[int, int, int]] = []
    first = last = epoch = -1
    for section, at in points:
        if section == last + 1 and at == epoch:
            last = section
            continue
        if epoch >= 0:
            ranges.append((first, last, epoch))
        first, last, epoch = section, section, at
    if epoch >= 0:
        ranges.append((first, last, epoch))
    return ranges
