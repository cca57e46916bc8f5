"""The options of a server program: one table, four sources.

A flag wins over the environment (SEQSVR_ and the option's name in capitals), that over the TOML
file that --config or SEQSVR_CONFIG names, that over the default. In the file an option stands under
its name, with - or _. A variable that is set to nothing counts as not set.

Whatever its source, a value that is none is refused with one line that says where it came from.
"""

import argparse
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NoReturn

from svrprocess.failures import WRONG_USAGE, WrongUsage, one_line
from svrprocess.values import PATH, SWITCH, Kind

PREFIX = "SEQSVR_"
_LARGEST = 2**64
_EXIT_CODES = (
    "exit codes: 0 after SIGTERM or SIGINT, 2 wrong usage, 3 it could not start,"
    " 70 a fault while serving. Precedence of options: flag, environment, --config file, default."
)


@dataclass(frozen=True, slots=True)
class Option:
    """One row of a program's table.

    name: as a flag, without its dashes; default: a value, not its text, and never checked; help:
    what it is, with its unit; required: one of the sources must have it.
    """

    name: str
    default: object
    kind: Kind
    help: str
    required: bool = False

    @property
    def key(self) -> str:
        """Its attribute in the Namespace, and its key in a file."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.key.upper()


CONFIG = Option("config", "", PATH, "TOML file with options by their names")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


def parse(
    program: str,
    description: str,
    options: Sequence[Option],
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> argparse.Namespace:
    """What all sources together say; --config, --help and --version come with it.

    argv, environ: the process's own where None. Raises WrongUsage, and SystemExit (0 after --help
    and --version, 2 for what is no flag).
    """
    parser = Parser(prog=program, description=description, epilog=_EXIT_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("seqsvr"))
    add_flags(parser, [*options, CONFIG])
    return resolve(parser.parse_args(argv), options, environ)


def add_flags(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Flags without a default of argparse's: `resolve` has the other sources."""
    for option in options:
        more: dict[str, Any] = {"metavar": option.kind.metavar}
        if option.kind is SWITCH:
            more = {"action": "store_const", "const": "true"}
        parser.add_argument(
            f"--{option.name}",
            dest=option.key,
            default=argparse.SUPPRESS,
            help=_help(option).replace("%", "%%"),
            **more,
        )


def resolve(
    given: argparse.Namespace,
    options: Iterable[Option],
    environ: Mapping[str, str] | None = None,
) -> argparse.Namespace:
    """Add what the environment, the file and the defaults say to the flags that were given.

    `given` may hold more than options, and need not have had --config among its flags. Raises
    WrongUsage.
    """
    environ = os.environ if environ is None else environ
    table = {option.key: option for option in options}
    flags = vars(given)
    path = flags.get(CONFIG.key) or environ.get(CONFIG.variable) or ""
    file = _read(path, table) if path else {}
    found = dict(flags)
    for key, option in table.items():
        if key in flags:
            found[key] = _parsed(option, f"--{option.name}", flags[key])
        elif environ.get(option.variable):
            found[key] = _parsed(option, option.variable, environ[option.variable])
        elif key in file:
            found[key] = _parsed(option, f"{option.name} in {path}", file[key])
        elif option.required:
            raise WrongUsage(
                f"--{option.name} is missing (or {option.variable}, or {key} in a --config file)"
            )
        else:
            found[key] = option.default
    return argparse.Namespace(**found)


def _help(option: Option) -> str:
    default = "required" if option.required else f"default {_shown(option.default)}"
    return f"{option.help} ({default}; environment {option.variable})"


def _shown(default: object) -> str:
    if default is None or default == "" or default == ():
        return "none"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "off" if not default else "on"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _parsed(option: Option, source: str, text: str) -> object:
    try:
        return option.kind.parse(text)
    except ValueError as error:
        raise WrongUsage(f"{source} {error}") from None


def _read(path: str, table: Mapping[str, Option]) -> dict[str, str]:
    """The file's values as text, by option; every key of it must be an option."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} is not TOML: {one_line(str(error))}") from None
    found: dict[str, str] = {}
    for name, value in content.items():
        option = table.get(name.replace("-", "_"))
        if option is None:
            raise WrongUsage(f"{path} has an unknown option {name!r}")
        if option.key in found:
            raise WrongUsage(f"{path} has {option.name} twice")
        found[option.key] = _as_text(option, f"{option.name} in {path}", value)
    return found


def _as_text(option: Option, source: str, value: object) -> str:
    # Not isinstance: a bool is an int of Python's, and no number of an operator's.
    if type(value) not in option.kind.types:
        kinds = " or ".join(_TOML[kind] for kind in option.kind.types)
        raise WrongUsage(f"{source} must be {kinds}, not {_TOML.get(type(value), 'a date')}")
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise WrongUsage(f"{source} must hold strings only")
        return ",".join(value)
    if type(value) is int and abs(value) > _LARGEST:  # more digits than Python writes, perhaps
        raise WrongUsage(f"{source} is an integer far out of range")
    return str(value).lower() if isinstance(value, bool) else str(value)


_TOML = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
    dict: "a table",
}
