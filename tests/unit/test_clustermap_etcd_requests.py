"""The map's keys, changes and options in etcd's words."""

from pathlib import Path

import pytest
from etcd3.etcdrpc import kv_pb2

from clustermap.coordinator import Change, Versioned
from clustermap.etcd_options import EtcdOptions
from clustermap.etcd_requests import Keyspace, after

keyspace = Keyspace("/p/")


def put(key: str, value: bytes, revision: int) -> kv_pb2.Event:
    kv = kv_pb2.KeyValue(key=b"/p/" + key.encode(), value=value, mod_revision=revision)
    return kv_pb2.Event(type=kv_pb2.Event.PUT, kv=kv)


def delete(key: str, revision: int) -> kv_pb2.Event:
    kv = kv_pb2.KeyValue(key=b"/p/" + key.encode(), mod_revision=revision)
    return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff\xff", b"b"), (b"\xff", b"\0")]
)
def test_a_range_ends_before_the_first_key_without_the_prefix(prefix: bytes, end: bytes) -> None:
    assert after(prefix) == end


@pytest.mark.parametrize("key", ["", "a/1", "ä", "\udcff"])
def test_a_key_comes_back_as_it_was(key: str) -> None:
    assert keyspace.encode(key).startswith(b"/p/")
    assert keyspace.decode(keyspace.encode(key)) == key


def test_what_one_transaction_did_is_one_change() -> None:
    events = [put("a", b"1", 5), put("b", b"2", 5), delete("a", 6), put("c", b"3", 8)]
    assert list(keyspace.changes(events, 4)) == [
        Change(5, {"a": Versioned(b"1", 5), "b": Versioned(b"2", 5)}),
        Change(6, {"a": None}),
        Change(8, {"c": Versioned(b"3", 8)}),
    ]


def test_what_was_told_before_is_not_told_again() -> None:
    events = [put("a", b"1", 5), put("b", b"2", 6)]
    assert list(keyspace.changes(events, 5)) == [Change(6, {"b": Versioned(b"2", 6)})]
    assert list(keyspace.changes(events, 6)) == []


def test_events_out_of_order_are_left_out() -> None:
    events = [put("a", b"2", 6), put("a", b"1", 5), put("b", b"2", 6)]
    whole = Change(6, {"a": Versioned(b"2", 6), "b": Versioned(b"2", 6)})
    assert list(keyspace.changes(events, 4)) == [whole]


PEM = Path("x.pem")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"endpoints": ()}, "endpoints"),
        ({"endpoints": ("localhost",)}, "endpoints"),
        ({"endpoints": ("http://localhost:2379",)}, "endpoints"),
        ({"endpoints": ("a:1", "a:1")}, "endpoints"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "/seqsvr"}, "prefix"),
        ({"cert": PEM}, "cert and key"),
        ({"key": PEM}, "cert and key"),
        ({"user": "a"}, "user and password"),
        ({"password": "a"}, "user and password"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"quiet_s": -1.0}, "quiet_s"),
        ({"attempt_s": 5.0}, "attempt_s"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        EtcdOptions(**{"endpoints": ("localhost:2379",), **wrong})  # type: ignore[arg-type]


def test_a_password_is_not_shown_with_the_options() -> None:
    assert "secret" not in repr(EtcdOptions(("a:1",), user="u", password="secret"))


def test_a_connection_is_in_the_clear_unless_there_are_certificates() -> None:
    assert not EtcdOptions(("a:1",)).tls
    assert EtcdOptions(("a:1",), ca=PEM).tls
    assert EtcdOptions(("a:1",), cert=PEM, key=PEM).tls
