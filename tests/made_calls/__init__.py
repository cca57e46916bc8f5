"""Hand-made calls for tests of the checker: times are small integers, one uid."""

from typing import Any

from seqcheck.calls import Call

UID = 7


def handout(seq: int, call_ns: int, return_ns: int, count: int = 1, **more: Any) -> Call:
    return Call("next", more.pop("uid", UID), count, call_ns, return_ns, seq, **more)


def advance(seq: int, call_ns: int, return_ns: int, at_least: int = 0, **more: Any) -> Call:
    uid = more.pop("uid", UID)
    return Call("advance", uid, 1, call_ns, return_ns, seq, at_least=at_least, **more)


def current(seq: int, call_ns: int, return_ns: int, **more: Any) -> Call:
    return Call("current", more.pop("uid", UID), 1, call_ns, return_ns, seq, **more)
