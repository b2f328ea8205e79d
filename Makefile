# Needs Python >= 3.11, make and a package index; everything else goes into $(VENV).
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PYTEST_ARGS ?=
BIN := $(VENV)/bin
RUN := $(BIN)/python -m

# The stamp carries a checksum, not a time: `git checkout` touches files without changing them,
# and a moved checkout needs a new editable install.
INSTALLED := $(VENV)/.installed-$(shell { cat pyproject.toml constraints.txt; echo "$(CURDIR)"; } | cksum | cut -d' ' -f1)

# An instance with telemetry off, so that checking the definitions writes nothing outside.
CHECK_HOME := $(abspath $(VENV))/dagster

# The base install, with the numpy that mmdet3d and nuscenes-devkit bring.
BASE := .venvs/base
BASE_INSTALLED := $(BASE)/.installed-$(shell { cat pyproject.toml constraints.txt; echo "$(CURDIR)"; } | cksum | cut -d' ' -f1)
BASE_ROOMS := records geometry tables metrics evaluation evaluator windows figures diagnosis lake

# Live MMDetection3D models on the CPU. mmcv 2.1.0 has no wheels on the package index and takes 20 minutes to build, so the
# wheel comes from beside the checkout; where there is none both targets say so and do nothing.
DETECTORS := build/detectors
DETECTORS_LOCK := tests/detectors/requirements.lock
MMCV_WHEEL := $(firstword $(wildcard ../shared/wheels/mmcv-2.1.0-cp311-*.whl))
DETECTORS_INSTALLED := $(DETECTORS)/.installed-$(shell { cat $(DETECTORS_LOCK); echo "$(CURDIR) $(notdir $(MMCV_WHEEL))"; } | cksum | cut -d' ' -f1)

.PHONY: detector-env test-detectors
.PHONY: help install demo up test test-base check bench bench-estimation docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED):
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or say where: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Dependency groups (PEP 735) came with pip 25.1; older Pythons bring an older pip.
	$(RUN) pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[platform]' --group dev
	@rm -f $(VENV)/.installed-*
	@touch $@

install: $(INSTALLED) ## Create .venv with the pinned set (every other target does it by itself)

demo: $(INSTALLED) ## Watch the whole loop, for a classifier and a 3D detector (5 minutes)
	$(BIN)/mld demo

# The demo's state is opened until there is a lake of your own.
up: $(INSTALLED) ## Start the platform: Dagster UI and daemon on this machine, Ctrl-C stops them
	@home="$$MLD_HOME"; if [ -z "$$home" ] && [ -d .mld/demo ] && [ ! -d .mld/lake ]; then home=.mld/demo; fi; \
	if [ -n "$$home" ]; then export MLD_HOME="$$home"; fi; exec $(BIN)/mld up

check: $(INSTALLED) ## Lint, format, types, Dagster definitions
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	@mkdir -p $(CHECK_HOME) && cp mld_pipelines/cli/templates/dagster.yaml $(CHECK_HOME)
	DAGSTER_HOME=$(CHECK_HOME) $(RUN) dagster definitions validate -w workspace.yaml
	DAGSTER_HOME=$(CHECK_HOME) $(BIN)/python -c 'from dagster_dg_cli.cli import main; main()' check defs
	DAGSTER_HOME=$(CHECK_HOME) $(BIN)/python -c 'from dagster_dg_cli.cli import main; main()' list defs >/dev/null

test: check ## Everything CI runs: check, then the tests with the feature list
	$(RUN) pytest --features=check $(PYTEST_ARGS)

$(BASE_INSTALLED):
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or say where: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BASE)/bin/python || $(PYTHON) -m venv $(BASE)
	@grep -v '^numpy==' constraints.txt > $(BASE)/constraints.txt
	$(BASE)/bin/python -m pip install --quiet --disable-pip-version-check -c $(BASE)/constraints.txt \
		-e . 'numpy==1.26.4' pytest pytest-timeout hypothesis
	@rm -f $(BASE)/.installed-*
	@touch $@

test-base: $(BASE_INSTALLED) ## The pure rooms with the base install alone and numpy 1.26, no torch, no platform
	$(BASE)/bin/python -m pytest -q -m "not platform and not torch and not slow" $(BASE_ROOMS:%=tests/%)

$(DETECTORS_INSTALLED):
	@command -v python3.11 >/dev/null || { echo "The mmcv wheel is for Python 3.11, which is not here."; exit 1; }
	@rm -rf $(DETECTORS) && python3.11 -m venv $(DETECTORS)
	$(DETECTORS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(DETECTORS_LOCK) $(MMCV_WHEEL)
	@touch $@

ifdef MMCV_WHEEL
detector-env: $(DETECTORS_INSTALLED) ## Build the environment in which MMDetection3D runs on the CPU

test-detectors: $(DETECTORS_INSTALLED) ## Run the adapters of 3D detectors on real MMDetection3D models
	@# third parties' deprecations are theirs here: mmdet3d 1.4 is older than this torch
	PYTHONPATH=. $(DETECTORS)/bin/python -m pytest -q -W default tests/detectors $(PYTEST_ARGS)
else
detector-env test-detectors: ## (as above; needs the wheel of mmcv)
	@echo "No ../shared/wheels/mmcv-2.1.0-cp311-*.whl: live detectors are not tested here. CONTRIBUTING.md says how to build it."
endif

bench: $(INSTALLED) ## Measure the speed ratios and rewrite the tables in docs/
	$(RUN) benchmarks

bench-estimation: $(INSTALLED) ## Compare the estimates with their peers (40 minutes) and rewrite docs/estimation.md
	$(RUN) benchmarks.estimation

docs: $(INSTALLED) ## Regenerate the generated pages of docs/ and build the site in site/
	$(RUN) docs.generate
	$(RUN) pytest --collect-only -q --features=write
	$(RUN) zensical build --strict --clean

lock: $(INSTALLED) ## Rewrite constraints.txt from what is installed
	@{ sed -n '/^#/p;/^[^#]/q' constraints.txt; \
	  $(RUN) pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | LC_ALL=C sort -f; } > constraints.tmp
	@mv constraints.tmp constraints.txt

clean: ## Remove environments, caches and the demo's state (never another .mld)
	rm -rf $(VENV) $(BASE) .mld/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache site build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
