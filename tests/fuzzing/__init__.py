"""Bad input: whatever reads what others write is given what nobody would write.

A target is a function of bytes that raises nothing but what it is documented to raise; such errors
it catches itself, so that anything that leaves it is a bug (`Escaped` where it notices one itself).

targets.py      the registry: every target by its name, what it covers, seeds made by code
mutate.py       inputs: seeds changed at random, as bytes and as JSON; absurd protobuf messages
documents.py    documents of the map, whole maps, what etcd answers
stored.py       what lies on disk: records, snapshots, the store's own notes, the embedded map
files.py        what operators hand over: traces, histories, floors, backups, options, audit lines
credentials.py  auth files, tokens, names in certificates, and their files
answers.py      what a client reads of a hostile server
handlers.py     every rpc of Alloc and Store, Sessions
regressions.py  inputs that have found a bug
runner.py       many inputs, with random changes or by coverage (atheris): `make fuzz`

What is in CI is a few hundred inputs of each target, always the same: tests/unit/test_fuzzing.py.
"""
