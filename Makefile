# `make run` attacks one bundled image, `make test` runs all checks; both make what they need. `make help` shows the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
FULL = $(OUT)/benchmark-full
LIMIT := 600
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where a user names an interpreter, an environment of another version is made anew.
NAMED := $(if $(filter file default undefined,$(origin PYTHON)),,yes)
VERSION := import sys; print(*sys.version_info[:2], sep=".")
ATTACK = $(BIN)/python -m arfj.attack

.PHONY: help run test lint benchmark benchmark-full paper transfer notebooks bundle clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make run        install what the main job needs, and attack the bundled image of class 9 (output: $(OUT)/)"
	@echo "make test       install everything, then lint, types, tests"
	@echo "make benchmark  what the attack takes: a few cheap instances of each suite, in minutes (output: $(OUT)/benchmark/)"
	@echo "make benchmark-full  all ten images against nominal, inner and outer networks (LIMIT=$(LIMIT) seconds an image),"
	@echo "                then all suites: hours (output: $(OUT)/benchmark-full/)"
	@echo "make paper      every table and figure of the paper, next to the published numbers: half an hour (output: $(OUT)/paper/)"
	@echo "make transfer   the study of answers on networks that no attack has seen: hours (output: $(OUT)/transfer/)"
	@echo "make notebooks  execute notebooks/ (output: $(OUT)/notebooks/)"
	@echo "make bundle     train the networks that ship with the package again (needs Fashion-MNIST)"
	@echo "make clean      remove $(VENV), $(OUT) and caches"
	@echo "PYTHON=python3.12 make run picks an interpreter."

run: $(VENV)/.run
	$(ATTACK) --outer --alpha 5 --true 9 --output $(OUT)

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4

lint: $(VENV)/.test
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

benchmark: $(VENV)/.run
	$(BIN)/python -m experiments.attack_benchmark --short --rows $(OUT)/benchmark/results.jsonl --plot $(OUT)/benchmark

benchmark-full: $(VENV)/.run
	$(ATTACK) --nominal --time-limit $(LIMIT) --output $(FULL)
	$(ATTACK) --inner --alpha 5 --time-limit $(LIMIT) --output $(FULL)
	$(ATTACK) --outer --alpha 5 --time-limit $(LIMIT) --output $(FULL)
	$(BIN)/python -m experiments.table_bundled --rows $(FULL)/results.jsonl
	$(BIN)/python -m experiments.attack_benchmark --run --rows $(FULL)/suites.jsonl --plot $(FULL)

paper: $(VENV)/.test
	$(BIN)/python -m experiments paper --run --out $(OUT)/paper

transfer: $(VENV)/.test
	$(BIN)/python -m experiments transfer --run --out $(OUT)/transfer

notebooks: $(VENV)/.test
	mkdir -p $(OUT)/notebooks
	cp notebooks/*.ipynb $(OUT)/notebooks/
	cd $(OUT)/notebooks && $(abspath $(BIN))/jupyter execute --inplace *.ipynb

bundle: $(VENV)/.test
	$(BIN)/python -m training.train --bundle
	$(BIN)/python -m training.train --growth

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f arfj/bab/fast.c arfj/bab/*.so

# The environment. Its recipe always runs, but touches a sound environment not at all: then the stamps stay valid.
$(VENV)/pyvenv.cfg: FORCE
	@if $(BIN)/python -m pip --version >/dev/null 2>&1 && { [ -z "$(NAMED)" ] || \
	    [ "$$($(BIN)/python -c '$(VERSION)')" = "$$($(PYTHON) -c '$(VERSION)' 2>/dev/null)" ]; }; then exit 0; fi; \
	if ! command -v "$(PYTHON)" >/dev/null 2>&1 || ! $(PYTHON) -c '$(VERSION)' >/dev/null 2>&1; then \
	    echo "error: $(PYTHON) does not run; name a Python of 3.11 or newer, as in PYTHON=python3.12 make run" >&2; exit 1; fi; \
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "error: $(PYTHON) is $$($(PYTHON) -c '$(VERSION)'), arfj needs 3.11 or newer; name one, as in PYTHON=python3.12 make run" >&2; exit 1; fi; \
	if ! $(PYTHON) -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    echo "error: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi; \
	echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV)

$(VENV)/.run: setup.cfg setup.py pyproject.toml arfj/bab/fast.pyx $(VENV)/pyvenv.cfg
	@echo "installing arfj and what its main job needs (the first time takes a minute)"
	@$(BIN)/python -m pip install --quiet --editable '.[plot]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need, TensorFlow among it (the first time takes minutes)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
