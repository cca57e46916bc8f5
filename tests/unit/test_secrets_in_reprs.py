"""No value class shows a secret when it is printed, in a log or in a traceback."""

import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import getmembers, isclass

import pytest

PACKAGES = ("seqsvr", "clustermap", "svrprocess", "storesvr", "allocsvr", "arbitersvr", "seqctl")
SECRET = ("password", "token", "key_pem", "private_key")


def value_classes() -> Iterator[type]:
    for package in PACKAGES:
        path = import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            if found.name.endswith("__main__"):
                continue
            module = import_module(found.name)
            for _, one in getmembers(module, isclass):
                if one.__module__ == found.name and is_dataclass(one):
                    yield one


def shown_secrets(one: type) -> list[str]:
    """Fields that may hold a secret itself, not the path of its file, and are in the repr."""
    found = []
    for field in fields(one):
        is_text = str(field.type) in ("str", "str | None", "bytes", "bytes | None", str, bytes)
        is_key = field.name == "key" and field.type in (bytes, "bytes", "bytes | None")
        if field.repr and (is_key or (is_text and field.name in SECRET)):
            found.append(field.name)
    return found


def test_there_is_something_to_look_at() -> None:
    names = {one.__name__ for one in value_classes()}
    assert {"EtcdOptions", "Content", "Caller", "Tls"} <= names


@pytest.mark.parametrize(
    "one", list(value_classes()), ids=lambda one: f"{one.__module__}.{one.__name__}"
)
def test_no_secret_is_in_a_repr(one: type) -> None:
    assert not shown_secrets(one)
