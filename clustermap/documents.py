"""The documents of the cluster map as bytes: JSON, written one way and read strictly.

Several versions of the software may share one map, so a reader takes nothing on trust: another
format version, a missing, unknown, repeated or ill-typed field, a number out of its range are all
refused with MapCorrupt, which names the document and the field. Guessing at an epoch is how numbers
come to be handed out twice.

64-bit random ids travel as 16 hex digits: many JSON tools round integers above 2^53.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from clustermap.errors import MapCorrupt

FORMAT = 1
U64_MAX = 2**64 - 1
SMALL = 4_096
"""Bytes up to which a document is kept, read, for who asks again (at most 1 MB of them)."""

_HEX64 = re.compile("[0-9a-f]{16}")

T = TypeVar("T")


def encode(fields: Mapping[str, object]) -> bytes:
    """The document with these fields; equal fields give equal bytes."""
    whole = {"format": FORMAT, **fields}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def decode(document: str, raw: bytes, build: Callable[["Fields"], T]) -> T:
    """What `build` makes of the fields of `raw`; raises MapCorrupt, which names `document`.

    build: makes a value that nobody can change: the same bytes may give the same object.
    """
    built: T = (_known if len(raw) <= SMALL else _decoded)(document, raw, build)
    return built


def _decoded(document: str, raw: bytes, build: Callable[["Fields"], Any]) -> Any:
    try:
        fields = Fields("", _loads(raw))
        found = fields.integer("format", 0, U64_MAX)
        if found != FORMAT:
            raise ValueError(f"format {found} is not known here, only {FORMAT} is")
        built = build(fields)
        fields.finish()
    except (ValueError, RecursionError) as error:
        raise MapCorrupt(f"map document {document!r}: {error}") from error
    return built


# Whoever follows the map reads all of it whenever anything in it has changed.
_known = lru_cache(256)(_decoded)


class Fields:
    """One JSON object on its way into a value. Every reading method raises ValueError."""

    __slots__ = ("_left", "_path")

    def __init__(self, path: str, value: object) -> None:
        """value: is read up, and so used up."""
        if not isinstance(value, dict):
            raise ValueError(f"{path or 'the whole'} must be an object, not {_kind(value)}")
        self._path = path
        self._left: dict[str, object] = value

    def text(self, name: str) -> str:
        value = self._take(name)
        return value if isinstance(value, str) else self._refuse(name, "a string", value)

    def maybe_text(self, name: str) -> str:
        """A string that is written only where it is not empty; empty where it is missing."""
        if not self.has(name):
            return ""
        text = self.text(name)
        if not text:
            raise ValueError(f"{self._path}{name} is written only where it is not empty")
        return text

    def flag(self, name: str) -> bool:
        value = self._take(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false", value)

    def mark(self, name: str) -> bool:
        """Whether the field is there: true is all that it may say, false is not written."""
        if not self.has(name):
            return False
        if not self.flag(name):
            raise ValueError(f"{self._path}{name} is written only where it is true")
        return True

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._take(name)
        # bool is an int to Python, but not to JSON.
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(name, "an integer", value)
        if not low <= value <= high:
            raise ValueError(f"{self._path}{name} must be in {low}..{high}, not {value}")
        return value

    def hex64(self, name: str) -> int:
        """A 64-bit id other than 0, written as 16 lower-case hex digits."""
        text = self.text(name)
        value = int(text, 16) if _HEX64.fullmatch(text) else 0
        if not value:
            raise ValueError(f"{self._path}{name} must be 16 hex digits, not all 0: {text!r}")
        return value

    def many(self, name: str, build: Callable[["Fields"], T]) -> tuple[T, ...]:
        """A list of objects, each through `build`."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, "a list", value)
        return tuple(self._item(f"{self._path}{name}[{i}]", v, build) for i, v in enumerate(value))

    def one(self, name: str, build: Callable[["Fields"], T]) -> T:
        """An object, through `build`."""
        return self._item(f"{self._path}{name}", self._take(name), build)

    def has(self, name: str) -> bool:
        """Whether the field is there and has not been read."""
        return name in self._left

    def maybe(self, name: str, build: Callable[["Fields"], T]) -> T | None:
        """The same, None where the field is missing."""
        return self.one(name, build) if self.has(name) else None

    def maybe_many(self, name: str, build: Callable[["Fields"], T]) -> tuple[T, ...]:
        """A list of objects, empty where the field is missing."""
        return self.many(name, build) if name in self._left else ()

    def finish(self) -> None:
        """Raise ValueError if a field has not been read: it would be lost in the next write."""
        if self._left:
            raise ValueError(f"{self._path}{min(self._left)} is not a field of this format")

    @staticmethod
    def _item(path: str, value: object, build: Callable[["Fields"], T]) -> T:
        fields = Fields(f"{path}.", value)
        built = build(fields)
        fields.finish()
        return built

    def _take(self, name: str) -> object:
        try:
            return self._left.pop(name)
        except KeyError:
            raise ValueError(f"{self._path}{name} is missing") from None

    def _refuse(self, name: str, wanted: str, value: object) -> NoReturn:
        raise ValueError(f"{self._path}{name} must be {wanted}, not {_kind(value)}")


def hex64(value: int) -> str:
    """A 64-bit id as `Fields.hex64` reads it."""
    return f"{value:016x}"


def _loads(raw: bytes) -> object:
    return _DECODER.decode(raw.decode())


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)} occurs twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
