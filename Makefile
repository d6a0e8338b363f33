# predictive_scoring: `make run` is all a new machine needs (Python 3.11 or newer, git and make).
# Every target sets up what it needs; what is already there is not done again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PROJECT := data/projects/sample/scoring.yaml
TABLES := data/projects/sample/tables
BIN := .venv/bin
CLI := $(BIN)/predictive-scoring
EXTRAS := postgres,spark,crm,otel,notebook,dev

# No usage statistics leave this machine, MLflow needs no git program, and nothing downloads an interpreter.
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help

# Lists the targets with the comment above each.
.PHONY: help
help:
	@awk '/^# / { text = text ? text "\n                    " substr($$0, 3) : substr($$0, 3); next } \
	  /^\.PHONY:/ { next } \
	  /^[a-z-]+:/ { name = $$1; sub(":.*", "", name); if (text) printf "make %-14s %s\n", name, text } \
	  { text = "" }' Makefile

# Everything at once: sets up, generates the sample, trains, promotes, serves API and pages on
# http://127.0.0.1:3000 until Ctrl-C.
.PHONY: run
run: models/sample.stamp
	@$(MAKE) serve

# The same without serving, set up for work on it: ends with a trained, promoted champion for the sample project.
.PHONY: demo
demo: .venv/.dev models/sample.stamp
	@echo "The sample project has a champion. Next: make serve"

# Serves API and pages of the sample project on http://127.0.0.1:3000 until Ctrl-C (make demo comes first).
.PHONY: serve
serve: .venv/.runtime
	@echo "Serving API and pages on http://127.0.0.1:3000 (Ctrl-C stops)"
	@exec $(CLI) serve --project $(PROJECT)

# Passes the tests on two workers, setting up what is missing.
# Choose some with ARGS, for example: make test ARGS="tests/laws -x"
.PHONY: test
test: .venv/.dev
	@.ci/system-packages chromium java
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not trial" $(ARGS)

# Lint, formatting, types, floors, and a look for what must never be committed.
.PHONY: check
check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_repository.py

# Puts the code into the form that `make check` asks for.
.PHONY: format
format: .venv/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Measures against named peers: runs every script in benchmarks/, one JSON line per case.
.PHONY: bench
bench: .venv/.dev
	@found=0; for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || continue; \
	  case $$(basename "$$script") in _*) continue;; esac; \
	  found=1; echo "== $$script" >&2; $(BIN)/python "$$script"; \
	done; [ $$found = 1 ] || echo "benchmarks/ holds no script yet" >&2

# Features against hand-written SQL, pandas and one cutoff; keeps the table in docs/benchmarks.md.
# ARGS="--quick" takes a minute, ARGS="--events 5000000" another size.
.PHONY: bench-features
bench-features: .venv/.dev
	@$(BIN)/python benchmarks/features.py --write docs/benchmarks.md $(ARGS)

# Scores against LightGBM, scikit-learn and a frequency score on public data; keeps the table in docs/benchmarks.md.
# ARGS="--quick" takes fewer rows, ARGS="--only shoppers" one case.
.PHONY: bench-quality
bench-quality: .venv/.dev
	@OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/quality.py --write docs/benchmarks.md $(ARGS)

# The service against a bare FastAPI application and MLflow's server, on this machine; keeps the table in docs/benchmarks.md.
# ARGS="--quick" takes a few minutes, ARGS="--only one_lead" one case. make demo comes first; the machine should be idle.
.PHONY: bench-serve
bench-serve: .venv/.dev
	@$(BIN)/python benchmarks/serving.py --write docs/benchmarks.md $(ARGS)

# The statistical trials at full length, with fresh seeds that are printed (quick forms are in make test).
.PHONY: trials
trials: .venv/.dev
	@code=0; $(BIN)/python -m pytest -n 2 -m trial $(ARGS) || code=$$?; \
	if [ $$code = 5 ]; then echo "there is no full-length trial yet"; else exit $$code; fi

# Breaks things on purpose, quick and full forms: kills, full and failing disks, stopped databases, floods (docs/faults.md).
# A longer soak: PREDICTIVE_SCORING_SOAK=3600 make faults ARGS="-k soak"
.PHONY: faults
faults: .venv/.dev
	@.ci/system-packages java
	$(BIN)/python -m pytest -n 2 -rP tests/faults $(ARGS)

# Makes constraints.txt again from pyproject.toml, with the newest versions that its bounds allow.
.PHONY: constraints
constraints: .venv/.dev
	@{ sed -n '/^#/p' constraints.txt; \
	  $(BIN)/uv pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --python-platform linux --upgrade \
	    --no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > .venv/constraints.txt
	@for version in 3.12 3.13; do \
	  $(BIN)/uv pip compile --quiet pyproject.toml --all-extras --python-version $$version --python-platform linux \
	    -c .venv/constraints.txt --no-annotate --no-header > /dev/null; done
	@mv .venv/constraints.txt constraints.txt

# Removes the environment, caches and build products. What you made stays: models/, mlflow.db, tables.
.PHONY: clean
clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./.git -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf

# ---------------------------------------------------------------------------------------------------------------
# The environment. Its two levels are stamp files, older than pyproject.toml or constraints.txt when out of date.

.venv/bin/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Creating .venv with $$("$$python" -V) ($$python)"; \
	    "$$python" -m venv --clear .venv || { rm -rf .venv; exit 1; }; \
	    exit 0; \
	  fi; \
	done; \
	echo "error: no Python 3.11 or newer with the venv module was found (python3.13, python3.12, python3.11, python3)." >&2; \
	echo "       Install one (Debian and Ubuntu: python3 and python3-venv; macOS: brew install python@3.13)," >&2; \
	echo "       or name one: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

# uv installs several times faster; where it cannot be had, or does not reach the index that pip is set up for,
# pip installs the same pins.
define install
	@$(BIN)/uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet -c constraints.txt uv \
	  || echo "uv is not available here; pip takes a little longer"
	@echo "Installing $(1)"; start=$$SECONDS; \
	{ $(BIN)/uv --version >/dev/null 2>&1 && $(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e "$(1)"; } \
	  || $(BIN)/python -m pip install --quiet -c constraints.txt -e "$(1)"; \
	echo "Installed in $$((SECONDS - start)) s"
endef

.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/python
	$(call install,.)
	@.ci/system-packages openmp
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(call install,.[$(EXTRAS)])
	@.ci/system-packages openmp
	@touch .venv/.runtime $@

# ---------------------------------------------------------------------------------------------------------------
# The sample project: made again when its definition or the code changes, or when its results are gone.

POINTER := $(firstword $(wildcard models/sample/champion.json))
SAMPLE_INPUTS := $(wildcard data/projects/sample/*.yaml) $(shell find src -name '*.py' -o -name '*.yaml')
ifeq ($(and $(POINTER),$(wildcard $(TABLES)/*)),)
SAMPLE_INPUTS += absent
endif

.PHONY: absent
absent:

# `train` and `promote` answer 3 when the candidate has not beaten the champion: that one then stays, which is fine.
models/sample.stamp: $(SAMPLE_INPUTS) | .venv/.runtime
	$(CLI) simulate --project $(PROJECT)
	@code=0; for verb in train promote; do \
	  echo "$(CLI) $$verb --project $(PROJECT)"; $(CLI) $$verb --project $(PROJECT) || { code=$$?; break; }; \
	done; \
	if [ $$code = 3 ] && [ -n "$(POINTER)" ]; then echo "The present champion stays."; else exit $$code; fi
	@touch $@
