# Thin on purpose: the logic is in Python. Every verb works on a fresh checkout and installs what it needs.
PYTHON ?= python3
PORT ?= 7420
DATA ?= data
KILL ?=
TLS ?=
PAUSES ?=
MINUTES ?= 10
SEED ?=
SEEDS ?= 100
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run cluster test test-pure test-sim test-integration test-e2e test-clusters check fix gen sim mutants model soak fuzz \
	reshard bench clean venv
.DELETE_ON_ERROR:

venv: $(STAMP)

# Neither venv's own pip nor ensurepip is needed: Debian ships Python and pip without them.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet \
		--constraint constraints.txt --editable '.[server,dev]'
	touch $@

# On a terminal the service gets a process group of its own: Ctrl-C is then its alone, it hands over
# and leaves with 0, and so does make, which would otherwise report an interrupt.
FOREGROUND = if [ -t 0 ]; then exec bash -mc '"$$@"; exit $$?' run "$$@"; else exec "$$@"; fi

run: $(STAMP)
	@set -- $(BIN)/seqctl up --data $(DATA) --listen 127.0.0.1:$(PORT); $(FOREGROUND)

# Not in `data` unless told so: that is the directory of `run`.
cluster: CLUSTER_DATA = $(if $(filter file,$(origin DATA)),data-cluster,$(DATA))
cluster: $(STAMP)
	@set -- $(BIN)/python examples/local-cluster/cluster.py --data $(CLUSTER_DATA) \
		--base-port $(PORT) $(KILL:%=--kill-every %) $(TLS:%=--tls); $(FOREGROUND)

# Side by side, since much of the time of tests with processes is waiting; what only computes gives
# way to what has leases to keep.
test: $(STAMP)
	$(MAKE) --jobs 5 --output-sync=line test-pure test-sim test-integration test-e2e test-clusters

test-pure: check
	nice -n 10 $(BIN)/python -m pytest tests/unit tests/property tests/model

test-sim: $(STAMP)
	nice -n 15 $(BIN)/python -m pytest tests/sim

test-integration: $(STAMP)
	$(BIN)/python -m pytest tests/integration

test-e2e: $(STAMP)
	$(BIN)/python -m pytest tests/e2e --ignore tests/e2e/operators --ignore tests/e2e/cluster

test-clusters: $(STAMP)
	$(BIN)/python -m pytest tests/e2e/operators tests/e2e/cluster

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/*/
	MYPYPATH=bench:client:tests $(BIN)/mypy bench/*.py bench/*/
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/python proto/generate.py --check

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

gen: $(STAMP)
	$(BIN)/python proto/generate.py

# One simulated history (SEED=), or many (SEEDS=, from 0 on); a failing one prints its seed.
sim: $(STAMP)
	$(BIN)/python -m simsvr $(if $(SEED),--seed $(SEED) --verbose,--seeds $(SEEDS) --jobs $(JOBS))

# Bugs planted on purpose, each of which the simulator has to find.
mutants: $(STAMP)
	$(BIN)/python -m simsvr.mutants --jobs $(JOBS)

# The protocol as a Promela model, checked exhaustively (needs Debian's spin, and a C compiler).
model: $(STAMP)
	$(BIN)/python docs/model/check.py

# Random faults against a cluster under load; the seed that it prints repeats them. What is to be
# looked at is soak-SEED.html, or REPORT.
soak: REPORT ?=
soak: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m real_cluster.soak --minutes $(MINUTES) \
		$(SEED:%=--seed %) $(REPORT:%=--report %)

# Bad input for whatever reads what others write: RUNS of it, all targets together (a million take
# half an hour) or TARGET's; ENGINE=atheris goes by coverage; REPLAY=FILE is one input again.
fuzz: RUNS ?= 100000
fuzz: ENGINE ?= random
fuzz: $(STAMP)
	PYTHONPATH=tests nice -n 19 $(BIN)/python -m fuzzing.runner --runs $(RUNS) --engine $(ENGINE) \
		$(TARGET:%=--target %) $(SEED:%=--seed %) $(REPLAY:%=--replay %)

# A Set split in two and merged back under load, over and over, with a kill -9 every KILL_S seconds
# (none: no kills). PAUSES=yes: how long a section that moves is without an answer.
reshard: KILL_S ?= 3
reshard: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m real_cluster.resharding --minutes $(MINUTES) \
		$(SEED:%=--seed %) $(if $(filter none,$(KILL_S)),--no-kills,--kill-s $(KILL_S)) \
		$(if $(PAUSES),--pauses)

# What numbers cost here and elsewhere, side by side (docs/BENCHMARKS.md). ROUNDS=, SECONDS= of each
# measurement, ONLY= names of cases and contestants; tables, figures and plots are in REPORT.
bench: REPORT ?= bench-report
bench: $(STAMP)
	PYTHONPATH=bench:tests $(BIN)/python -m seqbench $(ROUNDS:%=--rounds %) \
		$(SECONDS:%=--seconds %) $(ONLY:%=--only %) --report $(REPORT)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
