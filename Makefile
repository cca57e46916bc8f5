# Thin on purpose: the logic is in Python. Every verb works on a fresh checkout and installs what it needs.
PYTHON ?= python3
PORT ?= 7420
DATA ?= data
KILL ?=
MINUTES ?= 10
SEED ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run cluster test test-pure test-real check fix gen soak clean venv
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
		--base-port $(PORT) $(KILL:%=--kill-every %); $(FOREGROUND)

# What needs neither processes nor timing runs beside what does: it saves minutes and disturbs nothing.
test: $(STAMP)
	$(MAKE) --jobs 2 --output-sync=line test-pure test-real

test-pure: check
	$(BIN)/python -m pytest tests/unit tests/property

test-real: $(STAMP)
	$(BIN)/python -m pytest tests/e2e tests/integration

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/*/
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/python proto/generate.py --check

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

gen: $(STAMP)
	$(BIN)/python proto/generate.py

# Random faults against a cluster under load; the seed that it prints repeats them.
soak: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m real_cluster.soak --minutes $(MINUTES) $(SEED:%=--seed %)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
