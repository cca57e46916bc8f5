"""The command line: arguments, exit codes, one line per error, no traceback."""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seqctl import oneshot, replay
from seqctl.__main__ import main

GOOD = '{"op":"next","uid":7,"count":1,"call_ns":1,"return_ns":2,"seq":1,"epoch":1,"error":null}\n'
LOWER = GOOD.replace('"call_ns":1,"return_ns":2', '"call_ns":3,"return_ns":4')


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history"
    path.write_text(GOOD)
    return path


def leaves(argv: list[str]) -> int:
    """The exit code of a command that argparse may end."""
    try:
        return main(argv)
    except SystemExit as exit_:
        return int(exit_.code or 0)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["next"], "UID"),
        (["next", "-1"], "-1"),
        (["next", "x"], "0..9223372036854775807"),
        (["next", "9223372036854775808"], "0..9223372036854775807"),
        (["next", "18446744073709551615"], "0..9223372036854775807"),
        (["next", "9" * 5000], "uid must be"),
        (["next", "²"], "uid must be"),
        (["next", "1", "--count", "0"], "1..10000"),
        (["next", "1", "--count", "10001"], "1..10000"),
        (["next", "1", "--timeout", "0"], "seconds"),
        (["next", "1", "--timeout", "nan"], "seconds"),
        (["next", "1", "--addr", "localhost"], "HOST:PORT"),
        (["next", "1", "--addr", "localhost:0"], "HOST:PORT"),
        (["next", "1", "--addr", "a:1,,b:2"], "HOST:PORT"),
        (["next", "1", "--addr", "::1:7420"], "HOST:PORT"),
        (["current"], "UID"),
        (["replay", "trace", "--clients", "0"], "clients"),
        (["replay", "trace", "--spread", "0"], "1.."),
        (["check"], "HISTORY"),
        (["route", "-o", "yaml"], "yaml"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leaves(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert named in err


def test_addresses_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQSVR_ADDR", "no port here")
    assert leaves(["route"]) == 2
    assert "no port here" in capsys.readouterr().err


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(["check", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "CLOCK_MONOTONIC" in out
    assert "3 the cluster could not be reached" in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    printed = capsys.readouterr().out
    assert leaves(["--version"]) == 0
    assert capsys.readouterr().out == printed
    assert printed.strip()


def test_a_good_history_passes_with_a_summary(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(history)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ok: 1 calls in 1 file, 1 numbers of 1 uids")
    assert err == ""


def test_a_history_given_twice_is_wrong_usage_and_no_violation(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    again.symlink_to(history)
    for twice in ([str(history)] * 2, [str(history), str(again)]):
        assert main(["check", *twice]) == 2
        assert "are the same file" in capsys.readouterr().err


def test_a_bad_history_prints_both_calls_with_their_places(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.write_text("".join((LOWER.replace('"uid":7', '"uid":8'), LOWER)))
    assert main(["check", str(history), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SEQ-1 broken for uid 7: ")
    assert lines[1].startswith(f"  {history}:1 {{")
    assert lines[2].startswith(f"  {other}:2 {{")
    assert json.loads(lines[2].partition(" {")[2].join(("{", "")))["seq"] == 1
    assert lines[-1].startswith("2 violations: ")


def test_a_check_as_json_prints_one_value(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history.write_text(GOOD + LOWER + GOOD[:30])
    assert main(["check", str(history), "-o", "json"]) == 1
    out, _ = capsys.readouterr()
    value = json.loads(out)
    assert (value["calls"], value["numbers"], value["torn"], value["files"]) == (2, 2, 1, 1)
    assert [violation["promise"] for violation in value["violations"]] == ["SEQ-1", "SEQ-2"]
    first, second = value["violations"][0]["calls"]
    assert (first["where"], second["where"]) == (f"{history}:1", f"{history}:2")


def test_more_is_checked_of_a_complete_history(history: Path) -> None:
    history.write_text(
        '{"op":"current","uid":7,"count":1,"call_ns":1,"return_ns":2,"seq":9,"exact":true}\n'
    )
    assert main(["check", str(history)]) == 0
    assert main(["check", "--complete", str(history)]) == 1


def test_a_malformed_history_is_code_2_and_names_the_line(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history.write_text(GOOD + "nonsense\n")
    assert main(["check", str(history)]) == 2
    assert capsys.readouterr().err == f"seqctl check: {history}:2: not a JSON object\n"


def test_a_bad_trace_is_code_2_before_any_cluster_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace"
    path.write_text("1 2 3\n1 2\n")
    assert main(["replay", str(path)]) == 2
    assert f"{path}:2: " in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError("No module named 'rich'", name="rich.console"), 2),
        (RuntimeError("two\nlines"), 3),
        (ExceptionGroup("g", [ExceptionGroup("h", [ConnectionResetError("gone")])]), 3),
        (FileNotFoundError(2, "No such file or directory", "/absent/history"), 2),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(args: object) -> int:
        raise error

    monkeypatch.setattr(oneshot, "run_route", fails)
    assert main(["route"]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == (0 if code == 130 else 1)
    if isinstance(error, ModuleNotFoundError):
        assert "pip install 'seqsvr[server]'" in err


def test_a_missing_extra_is_named_with_what_to_install(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "seqctl.status", raising=False)
    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    monkeypatch.setitem(sys.modules, "grpc_health", None)
    assert main(["status"]) == 2
    assert "pip install 'seqsvr[server]'" in capsys.readouterr().err
    assert main(["check", str(history)]) == 0


def test_up_is_imported_only_when_it_is_asked_for(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "seqctl.up", None)
    assert main(["check", str(history)]) == 0
    stub = ModuleType("seqctl.up")
    stub.add_arguments = lambda parser: parser.add_argument("--data")  # type: ignore[attr-defined]
    stub.run = lambda args: 40 + len(args.data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "seqctl.up", stub)
    assert main(["up", "--data", "xy"]) == 42


def test_replay_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    monkeypatch.setattr(replay, "run", run)
    argv = "replay t --spread 3 --clients 5 --limit 9 --history h --timeout 1.5 --addr [::1]:1,b:2"
    assert main([*argv.split(), "-o", "json"]) == 0
    (args,) = seen
    assert (args.file, args.spread, args.clients, args.limit) == ("t", 3, 5, 9)
    assert (args.history, args.timeout, args.addr) == ("h", 1.5, ["[::1]:1", "b:2"])
    assert args.output == "json"
