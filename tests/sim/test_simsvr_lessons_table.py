"""docs/lessons-map.md names tests that exist, and every scenario there is."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "lessons-map.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return lines[1:]  # but for the head


def defined(path: Path) -> set[str]:
    """Names of tests, as pytest collects them."""
    nodes = ast.parse(path.read_text()).body
    made = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in nodes if isinstance(node, made)}
    assigned = [node.targets for node in nodes if isinstance(node, ast.Assign)]
    names |= {name.id for targets in assigned for name in targets if isinstance(name, ast.Name)}
    return {name for name in names if name.startswith(("test_", "Test"))}


def test_every_row_of_the_table_has_tests_and_each_of_them_exists() -> None:
    assert len(rows()) >= 20
    for row in rows():
        found = NAMED.findall(row)
        assert found, row
        for path, name in found:
            assert name in defined(ROOT / path), f"{path} has no {name}"


def test_every_scenario_is_in_the_table() -> None:
    named = {name for _, name in NAMED.findall(TABLE.read_text())}
    files = [*Path(__file__).parent.glob("test_simsvr_lessons_*.py")]
    files.append(Path(__file__).parent / "test_simsvr_scenarios.py")
    files.remove(Path(__file__))
    assert len(files) == 4
    for path in files:
        assert defined(path) <= named, f"{path.name}: {defined(path) - named}"
