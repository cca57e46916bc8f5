"""Bad input, in small: the corpus of every target, and the same few changes of it each time."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzing.mutate import absurd, seeded
from fuzzing.regressions import REGRESSIONS
from fuzzing.runner import inputs
from fuzzing.targets import TARGETS
from seqsvr.v1 import alloc_pb2

CHANGES = 60
ROOT = Path(__file__).parents[2]
READS = re.compile(
    r"\.from_json\(|json\.loads?\(|FromString\(|tomllib\.|\.unpack(_from)?\(|gzip\.|zlib\.decomp"
    r"|def (parse|read)(_\w+)?\("
)
_ROOMS = ("client/seqsvr", "seqcheck", "clustermap", "svrprocess", "storesvr", "allocsvr")
_MORE_ROOMS = ("arbitersvr", "seqctl")

# Modules that read by what is a target's already, or nothing of anybody else's; and why.
ELSEWHERE = {
    "allocsvr.answering": "what handlers give it: alloc.*",
    "allocsvr.joining": "documents, by from_json alone",
    "allocsvr.membership": "documents, by from_json alone",
    "allocsvr.moving": "documents, by from_json alone",
    "allocsvr.pictures": "documents, by from_json alone",
    "allocsvr.presence": "documents, by from_json alone",
    "allocsvr.reporting": "documents, by from_json alone",
    "arbitersvr.jobs": "documents, by from_json alone",
    "arbitersvr.keeper": "documents, by from_json alone",
    "arbitersvr.moving_sets": "documents, by from_json alone",
    "arbitersvr.reforming": "documents, by from_json alone",
    "seqctl.backup": "documents, by from_json alone",
    "seqctl.cluster_plan": "documents, by from_json alone",
    "seqctl.embedded": "documents, by from_json alone",
    "seqctl.following": "documents, by from_json alone",
    "seqsvr.channels": "addresses that its own caller gives",
    "storesvr.engine": "records, by records.decode alone",
    "storesvr.memory": "records, by records.decode alone",
    "storesvr.port": "names of methods",
    "storesvr.directory": "notes, by ledger.decode_... alone",
    "svrprocess.set_reading": "answers of replicas, by protobuf",
    "svrprocess.workers": "a pipe of our own",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is refused is logged, thousands of times."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_bad_input_is_answered_as_documented(name: str) -> None:
    target = TARGETS[name]
    for data in inputs(target, CHANGES, seed=0):
        began_s = time.process_time()
        try:
            target.run(data)
        except Exception as error:
            error.add_note(f"{name}: {data[:500]!r}")
            raise
        assert time.process_time() - began_s < 10, data[:500]


def test_every_module_that_reads_what_others_wrote_has_a_target() -> None:
    covered = {module for target in TARGETS.values() for module in target.covers}
    missing = []
    for room in (*_ROOMS, *_MORE_ROOMS):
        for file in sorted((ROOT / room).glob("*.py")):
            module = f"{Path(room).name}.{file.stem}"
            reads = READS.search(file.read_text())
            if reads and module not in covered and module not in ELSEWHERE:
                missing.append(f"{module} ({reads.group()})")
    assert not missing, f"no target of tests/fuzzing/targets.py covers {missing}"


def test_what_targets_and_exceptions_name_is_there() -> None:
    named = {module for target in TARGETS.values() for module in target.covers} | {*ELSEWHERE}
    rooms = {Path(room).name: ROOT / room for room in (*_ROOMS, *_MORE_ROOMS)}
    for module in named:
        room, _, name = module.partition(".")
        assert (rooms[room] / f"{name}.py").is_file(), module
    assert not REGRESSIONS.keys() - TARGETS.keys()


def test_inputs_of_a_target_are_always_the_same() -> None:
    target = TARGETS["stored.record"]
    assert inputs(target, 50, 3) == inputs(target, 50, 3)
    assert inputs(target, 50, 3) != inputs(target, 50, 4)
    one, other = (absurd(alloc_pb2.SessionRequest, seeded(b"x")) for _ in range(2))
    assert one == other
