"""Options: four sources, one precedence, and one line for whatever is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from svrprocess.failures import WrongUsage
from svrprocess.options import Option, parse
from svrprocess.values import (
    ADDRESSES,
    LISTEN,
    OPTIONAL_LISTEN,
    PATH,
    REACHED,
    SWITCH,
    TEXT,
    choice,
    integer,
    number,
    seconds,
    split,
)

TABLE = (
    Option("name", "nobody", TEXT, "a name, 100% yours"),
    Option("how-many", 3, integer(1, 10), "how many"),
    Option("wait-s", 2.5, seconds(0.1, 60), "a time, in seconds"),
    Option("listen", "127.0.0.1:1", LISTEN, "where"),
    Option("seeds", (), ADDRESSES, "whom to ask"),
    Option("make", False, SWITCH, "make one"),
    Option("colour", "red", choice("red", "blue"), "which"),
)
NEEDED = (Option("data", None, PATH, "where things are", required=True),)


def parsed(
    *argv: str, environ: Mapping[str, str] | None = None, table: Sequence[Option] = TABLE
) -> Any:
    return parse("prog", "A program.", table, argv, environ or {})


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes a TOML file; its path."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "prog.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refusal(*argv: str, environ: Mapping[str, str] | None = None, **more: Any) -> str:
    with pytest.raises(WrongUsage) as caught:
        parsed(*argv, environ=environ, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_any_source_everything_is_its_default() -> None:
    args = vars(parsed())
    assert args == {option.key: option.default for option in TABLE}


def test_each_source_outdoes_those_below_it(config: Any) -> None:
    path = config("how-many = 4\n")
    variable = {"SEQSVR_HOW_MANY": "5", "SEQSVR_CONFIG": path}
    assert parsed().how_many == 3
    assert parsed("--config", path).how_many == 4
    assert parsed(environ=variable).how_many == 5
    assert parsed("--how-many", "6", environ=variable).how_many == 6


def test_the_file_of_the_flag_outdoes_the_file_of_the_environment(config: Any) -> None:
    path = config("how-many = 4\n")
    assert parsed("--config", path, environ={"SEQSVR_CONFIG": "/nowhere"}).how_many == 4


def test_every_kind_of_value_is_read_from_every_source(config: Any) -> None:
    expected = {
        "name": "n",
        "how_many": 7,
        "wait_s": 30.0,
        "listen": "[::1]:0",
        "seeds": ("a:1", "b:2"),
        "make": True,
        "colour": "blue",
    }
    text = {**expected, "seeds": "a:1,b:2", "make": "true"}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in text.items() if key != "make"]
    assert vars(parsed(*flags, "--make")) == expected
    environ = {f"SEQSVR_{key.upper()}": str(value) for key, value in text.items()}
    assert vars(parsed(environ=environ)) == expected
    path = config(
        'name = "n"\nhow-many = 7\nwait_s = 30\nlisten = "[::1]:0"\n'
        'seeds = ["a:1", "b:2"]\nmake = true\ncolour = "blue"\n'
    )
    found = vars(parsed("--config", path))
    del found["config"]
    assert found == expected


def test_an_empty_variable_counts_as_not_set() -> None:
    assert parsed(environ={"SEQSVR_HOW_MANY": "", "SEQSVR_CONFIG": ""}).how_many == 3


def test_a_switch_can_be_turned_off_by_the_environment(config: Any) -> None:
    path = config("make = true\n")
    assert parsed("--config", path).make is True
    assert parsed("--config", path, environ={"SEQSVR_MAKE": "0"}).make is False


@pytest.mark.parametrize(
    ("kind", "bad", "says"),
    [
        (integer(1, 10), "0", "1..10"),
        (integer(1, 10), "11", "1..10"),
        (integer(1, 10), "1.0", "1..10"),
        (integer(1, 10), "²", "1..10"),
        (integer(1, 10), "9" * 5000, "1..10"),
        (seconds(0.1, 60), "0", "0.1..60"),
        (seconds(0.1, 60), "nan", "seconds"),
        (number(0, float("inf")), "inf", "number"),
        (LISTEN, "localhost", "HOST:PORT"),
        (LISTEN, "", "HOST:PORT"),
        (LISTEN, "::1:7420", "HOST:PORT"),
        (LISTEN, "a:http", "HOST:PORT"),
        (LISTEN, "a:65536", "0..65535"),
        (OPTIONAL_LISTEN, "a", "HOST:PORT"),
        (REACHED, "a:0", "1..65535"),
        (ADDRESSES, "a:1,,b:2", "HOST:PORT"),
        (ADDRESSES, "", "HOST:PORT"),
        (SWITCH, "maybe", "true or false"),
        (choice("red", "blue"), "green", "red, blue"),
    ],
)
def test_a_value_that_is_none_is_refused_whatever_its_source(
    config: Any, kind: Any, bad: str, says: str
) -> None:
    table = [Option("the-thing", None, kind, "it")]
    if kind is not SWITCH:
        line = refusal(f"--the-thing={bad}", table=table)
        assert line.startswith("--the-thing ") and says in line
    if bad:
        line = refusal(environ={"SEQSVR_THE_THING": bad}, table=table)
        assert line.startswith("SEQSVR_THE_THING ") and says in line
    if str in kind.types:
        path = config(f"the-thing = {bad!r}\n")
        line = refusal("--config", path, table=table)
        assert line.startswith(f"the-thing in {path} ") and says in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("how-many = 0\n", "1..10"),
        ('how-many = "7"\n', "must be an integer, not a string"),
        ("how-many = 7.0\n", "must be an integer, not a number"),
        ("how-many = true\n", "must be an integer, not true or false"),
        ("make = 1\n", "must be true or false, not an integer"),
        ("name = 5\n", "must be a string, not an integer"),
        ("name = 2020-01-01\n", "must be a string, not a date"),
        ("wait-s = inf\n", "0.1..60"),
        ('seeds = ["a:1", 2]\n', "strings only"),
        ("[name]\nx = 1\n", "must be a string, not a table"),
        ("colours = 1\n", "unknown option 'colours'"),
        ("config = 'x'\n", "unknown option 'config'"),
        ("how-many = 1\nhow_many = 1\n", "how-many twice"),
        ("how-many = \n", "not TOML"),
        (b"\xff\xfe", "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name(
    config: Any, text: str | bytes, says: str
) -> None:
    path = config(text)
    line = refusal("--config", path)
    assert path in line and says in line


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert refusal("--config", missing) == f"cannot read {missing}: No such file or directory"
    assert "Is a directory" in refusal(environ={"SEQSVR_CONFIG": str(tmp_path)})


def test_a_wrong_file_is_refused_though_flags_outdo_it(config: Any) -> None:
    assert "unknown" in refusal("--config", config("colours = 1\n"), "--how-many", "6")


def test_a_required_option_may_come_from_any_source(config: Any) -> None:
    line = refusal(table=NEEDED)
    for way in ("--data", "SEQSVR_DATA", "--config"):
        assert way in line
    assert parsed("--data", "d", table=NEEDED).data == "d"
    assert parsed(environ={"SEQSVR_DATA": "d"}, table=NEEDED).data == "d"
    assert parsed("--config", config("data = 'd'\n"), table=NEEDED).data == "d"


def test_help_says_default_and_variable_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed("--help", table=[*TABLE, *NEEDED])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for option in (*TABLE, *NEEDED):
        assert f"--{option.name} " in said and f"environment {option.variable})" in said
    for default in ("default 2.5;", "default nobody;", "default none;", "default off;"):
        assert default in said
    assert "100% yours" in said and "(required; environment SEQSVR_DATA)" in said


@pytest.mark.parametrize("argv", [["--how", "3"], ["--nonsense"], ["stray"], ["--name"]])
def test_what_is_no_flag_is_one_line_and_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        parsed(*argv)
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("prog: ")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed("--version")
    assert left.value.code == 0
    assert capsys.readouterr().out[0].isdigit()


def test_an_address_is_split_into_host_and_port() -> None:
    assert split("h:1") == ("h", 1)
    assert split("[::1]:7420") == ("[::1]", 7420)
    assert split("0.0.0.0:0") == ("0.0.0.0", 0)


@pytest.mark.parametrize(
    "line", ['data = "a\\u0000b"', "count = 0x" + "f" * 9_000, "count = 2026-01-01T00:00:00Z"]
)
def test_a_file_that_says_what_no_option_can_be_is_refused_in_one_short_line(
    tmp_path: Path, line: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(line)
    table = [Option("data", "", PATH, "where"), Option("count", 1, integer(1, 9), "how many")]
    with pytest.raises(WrongUsage) as caught:
        parse("program", "", table, ["--config", str(file)], environ={})
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
