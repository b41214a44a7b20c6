# Two commands for a fresh machine: `make run` and `make test`. PYTHON chooses the interpreter of the new environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# One more than cores of a small machine: a fifth of their time, tests wait for processes, disks and clocks.
TEST_WORKERS ?= 3
KERNELS := $(wildcard dyconv/kernels/csrc/*)

.PHONY: run all bench bench-harness bench-gpu test lint types contracts site tests torture clean

# The paper's core: minutes.
run: $(VENV)/.installed
	$(BIN)/python run_ablation.py run aggregation resolution temperature --preset quick --workers $(WORKERS)

# All studies; what `run` has trained is not trained again.
all: $(VENV)/.installed
	$(BIN)/python run_ablation.py run --all --preset quick --workers $(WORKERS)

# Layers and networks, for docs/performance.md: twenty minutes. The machine should have nothing else to do.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

# What launching, planning and reporting cost, for docs/developing/timings.md: half an hour.
bench-harness: $(VENV)/.installed
	$(BIN)/python -m benchmarks trial launch planning reporting

# Ten minutes of one GPU, unattended; DRY_RUN=1 walks every case on the CPU, at tiny size.
bench-gpu: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.gpu $(if $(DRY_RUN),--dry-run)

# Two at a time: the types are checked in the time in which the tests wait.
test: $(VENV)/.installed-test
	$(MAKE) --jobs 2 lint types contracts site tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

contracts: $(VENV)/.installed-test
	PYTHONPATH=. $(BIN)/lint-imports

# The documentation, with its generated reference; a warning is an error, and no network is needed.
site: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tests: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

# Faults that take minutes to inject: kills, full disks, dead servers, a cluster on this machine. Ray is installed for
# these alone: 350 MB and half a minute. A real SLURM is started where Debian's slurm-wlm and munge are installed.
torture: $(VENV)/.installed-torture
	$(BIN)/python -m pytest -m torture

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(KERNELS) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml $(KERNELS) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-torture: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[test,ray,slurm,deploy]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
