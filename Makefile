# The two commands that do all the set-up:
#
#   make quickstart    make the environment, install the package, run the whole job on the bundled sample
#   make test          make the environment with the tools; lint, check types, run the tests
#
# And then:
#
#   make test-slow     the tests that take minutes
#   make test-gpu      on a machine with a GPU: prove its paths and measure; PYTHON (python3) is used as it is, nothing is
#                      installed; results go to OUT (build/gpu)
#   make lint          only the linter, the formatter and the type checker
#   make clean         remove the environments and what the tools left behind (never runs/)
#
# All take the first suitable Python; PYTHON=python3.12 chooses one, in an environment of its own (.venv-3.12).
# EXTRAS=dev,gguf,metrics,baselines,serving leaves out torch, whose parity tests are then skipped, and the TPU compiler, which
# is there for Linux on x86-64 alone. Packages are installed again only when pyproject.toml has changed. Tests run in as many
# processes as there are cores, at most four.

EXTRAS := dev,gguf,metrics,baselines,serving,parity
ifeq ($(shell uname -sm),Linux x86_64)
EXTRAS := $(EXTRAS),tpu
endif
ifeq ($(MAKECMDGOALS),test-gpu)
VENV := .venv
else ifdef PYTHON
interpreter := $(firstword $(shell .ci/find-python $(PYTHON)))
ifndef interpreter
$(error PYTHON=$(PYTHON) cannot be used)
endif
VENV := .venv-$(shell $(interpreter) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
else
VENV := .venv
endif
bin := $(VENV)/bin

.PHONY: help quickstart test test-slow test-gpu lint clean

help:
	@sed -n '/^#   /s/^# //p' Makefile

quickstart: $(VENV)/.installed
	$(bin)/mentallama quickstart

test: lint
	$(bin)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test-slow: $(VENV)/.installed-$(EXTRAS)
	$(bin)/python -m pytest -m slow

test-gpu:
	$(or $(PYTHON),python3) tests/gpu/prove.py --out $(or $(OUT),build/gpu) $(GPU_OPTIONS)

lint: $(VENV)/.installed-$(EXTRAS)
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy

clean:
	rm -rf .venv .venv-* build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The parity extra asks for one exact torch, on Python 3.11 alone: anything looser may pull gigabytes of CUDA.
$(VENV)/.installed-$(EXTRAS): pyproject.toml | $(VENV)/.made
	@echo "installing into $(VENV): some minutes the first time"
	$(bin)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	@echo "installing into $(VENV): some minutes the first time"
	$(bin)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.made:
	$(or $(interpreter),$(firstword $(shell .ci/find-python)),false) -m venv --clear $(VENV)
	@touch $@
