"""Inputs of targets: what is valid, changed; and messages of protobuf that nobody would send."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_EDGES = (0, 1, 2, 127, 128, 4_095, 4_096, 4_097, 10_000, 10_001, 2**31 - 1, 2**31, 2**32 - 1)
_WIDE = (*_EDGES, 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)
_TOKENS: tuple[bytes, ...] = (
    *(b"\0", b"\xff" * 8, b"\n", b"\r\n", b"\x1b[2J", b'"', b"{", b"[", b"]" * 9, b"\\ud800"),
    *(b"[" * 3_000, b"9" * 30, b"9" * 5_000, b"-1", b"1e999", b"NaN", b"Infinity", b"null"),
    *(b"../../etc/passwd", b"/abs", b"%s%n", b"\xed\xa0\x80", "\u2028".encode(), b"0x" + b"f" * 99),
    *(value.to_bytes(8, order) for value in _WIDE for order in ("big", "little")),
    *(str(value).encode() for value in _WIDE),
)
_VALUES: tuple[object, ...] = (
    *(None, True, False, "", "x", "\0", "\x1b[2J", "a\nb", "\ud800", "x" * 300, "../..", "set-0"),
    *(-1, 1.5, 1e308, [], {}, [[]], {"": ""}, "0" * 16, "f" * 16, "NaN", "9" * 30),
    *_WIDE,
    *(2**64, -(2**63), 10**30),
)


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, changed in one to four places; now and then bytes out of nowhere."""
    if not seeds or rng.random() < 0.02:
        return rng.randbytes(rng.randrange(0, 200))
    data = rng.choice(seeds)
    if rng.random() < 0.5 and (changed := _json(rng, data)) is not None:
        return changed
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_CHANGES)(rng, data, seeds)
    return data[:100_000]


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    first, last = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:first] + data[last:] if rng.random() < 0.5 else data[:last]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(_TOKENS) + data[at:]


def _replace(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    token, at = rng.choice(_TOKENS), rng.randint(0, len(data))
    return data[:at] + token + data[at + len(token) :]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    first, last = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:last] + data[first:last] * rng.choice((1, 2, 20)) + data[last:]


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


_CHANGES: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip,
    _cut,
    _insert,
    _replace,
    _repeat,
    _splice,
)


def _json(rng: random.Random, data: bytes) -> bytes | None:
    """A document with one or two of its values changed; None where it is none."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    start = next((n for n, byte in enumerate(lines[at]) if byte in b"[{"), 0)
    try:
        tree = json.loads(lines[at][start:])
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.randint(1, 2)):
        tree = _changed(rng, tree)
    lines[at] = lines[at][:start] + json.dumps(tree).encode()
    return b"\n".join(lines)


def _changed(rng: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(sorted(tree))
        if rng.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        if rng.random() < 0.1:
            return {**tree, rng.choice(("x", "format", "first", key + "s")): rng.choice(_VALUES)}
        return {**tree, key: _changed(rng, tree[key])}
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        at = rng.randrange(len(tree))
        if rng.random() < 0.2:
            return [*tree[:at], *tree[at + 1 :]] if rng.random() < 0.5 else [*tree, tree[at]]
        return [*tree[:at], _changed(rng, tree[at]), *tree[at + 1 :]]
    if isinstance(tree, int) and rng.random() < 0.3:
        return tree + rng.choice((-1, 1, 2**32, -(2**63)))
    return rng.choice(_VALUES)


_SCALARS: dict[int, tuple[object, ...]] = {
    FieldDescriptor.TYPE_UINT64: _WIDE,
    FieldDescriptor.TYPE_UINT32: _EDGES,
    FieldDescriptor.TYPE_INT64: (0, 1, -1, 2**63 - 1, -(2**63)),
    FieldDescriptor.TYPE_INT32: (0, 1, -1, 2**31 - 1, -(2**31)),
    FieldDescriptor.TYPE_SINT64: (0, 1, -1, 2**63 - 1, -(2**63)),
    FieldDescriptor.TYPE_FIXED64: _WIDE,
    FieldDescriptor.TYPE_FIXED32: _EDGES,
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_ENUM: (0, 1, 5, 99, -1, 2**31 - 1),
    FieldDescriptor.TYPE_DOUBLE: (0.0, -1.0, 1e308, float("nan"), float("inf")),
    FieldDescriptor.TYPE_STRING: ("", "c1", "set-0", "\0", "\x1b[2J\n", "x" * 2_000, "../x", "é"),
    FieldDescriptor.TYPE_BYTES: (b"", b"\0", b"SQSN", b"\xff" * 300),
}
_LENGTHS = (0, 1, 1, 2, 3, 7, 64)


def absurd(kind: Any, rng: random.Random, depth: int = 0) -> Any:
    """A message of this kind whose every field is drawn from what is likeliest to hurt."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if rng.random() < 0.25 or depth > 4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            _fill(message, field, rng, depth)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(absurd(_kind(field), rng, depth + 1))
        else:
            setattr(message, field.name, rng.choice(_SCALARS[field.type]))
    return message


def _fill(message: Message, field: Any, rng: random.Random, depth: int) -> None:
    count = 4_097 if depth == 0 and rng.random() < 0.01 else rng.choice(_LENGTHS)
    items = getattr(message, field.name)
    if field.message_type is not None:
        items.extend(absurd(_kind(field), rng, depth + 1) for _ in range(min(count, 9)))
        return
    values = _SCALARS[field.type]
    near = rng.random() < 0.5  # small ones are those that something is served for
    items.extend(rng.choice(values[:3] if near else values) for _ in range(count))


def _kind(field: Any) -> Any:
    return field.message_type._concrete_class


def seeded(data: bytes) -> random.Random:
    """Choices that follow from an input alone, so that it can be replayed."""
    return random.Random(bytes(data))
