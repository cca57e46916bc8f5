"""Every module that import-linter holds to be pure is met by a property, or this fails.

A pure module takes everything that it depends on as arguments, so nothing excuses it from being
tried with whatever can be drawn. Whether a property says enough is another question: planting a
fault and seeing who notices (docs/TESTING.md) answers that one.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROPERTIES = sorted((ROOT / "tests" / "property").glob("test_*.py"))


def pure_modules() -> list[str]:
    """As pyproject.toml names them; a package stands for all of its modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [named] = [
        contract["source_modules"]
        for contract in contracts["contracts"]
        if contract["name"].startswith("Pure modules")
    ]
    return [module for name in named for module in modules_of(name)]


def modules_of(name: str) -> list[str]:
    for source in (ROOT, ROOT / "client"):
        place = source.joinpath(*name.split("."))
        if place.is_dir():
            inside = sorted(p.stem for p in place.glob("*.py") if not p.stem.startswith("__"))
            return [f"{name}.{module}" for module in inside]
        if place.with_suffix(".py").is_file():
            return [name]
    raise AssertionError(f"pyproject.toml names {name}, and there is no such module")


def imported(source: str) -> Iterator[str]:
    """Modules, and names out of them, which may be modules too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def behind(name: str) -> Iterator[str]:
    """A name, and the module that it comes from where a package of ours only hands it on."""
    yield name
    package, _, wanted = name.rpartition(".")
    front = ROOT / package / "__init__.py"
    if package and front.is_file():
        handed_on = imported(front.read_text())
        yield from (n.rpartition(".")[0] for n in handed_on if n.endswith(f".{wanted}"))


def draws(source: str) -> bool:
    """Whether a file is one of properties at all."""
    return "hypothesis" in set(imported(source))


@pytest.fixture(scope="module")
def met() -> frozenset[str]:
    """All that files of properties import."""
    sources = (path.read_text() for path in PROPERTIES)
    names = {name for source in sources if draws(source) for name in imported(source)}
    return frozenset(module for name in names for module in behind(name))


@pytest.mark.parametrize("module", pure_modules())
def test_a_pure_module_is_met_by_a_property(module: str, met: frozenset[str]) -> None:
    assert module in met, f"no file of tests/property imports {module}: write one that does"


def test_imports_are_found_in_every_form_they_have() -> None:
    source = "import a.b\nfrom c import d\nfrom e.f import (g as h, i)\nfrom . import j\n"
    assert set(imported(source)) == {"a.b", "c", "c.d", "e.f", "e.f.g", "e.f.i"}
    assert not draws(source)
    assert draws("def f() -> None:\n    from hypothesis import given\n")
    assert list(behind("seqcheck.Dense")) == ["seqcheck.Dense", "seqcheck.dense"]
    assert list(behind("storesvr.replica.Replica")) == ["storesvr.replica.Replica"]
