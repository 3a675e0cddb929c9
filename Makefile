# Framegrid: what you can do here. `make` alone prints this list.
SHELL := /bin/sh
.DEFAULT_GOAL := help

UV_VERSION := 0.13.8
VENV ?= .venv
PYTHON ?=
STATE_DIR ?= .framegrid
CAMERAS ?= cameras.yaml
DEMO_SECONDS ?= 0
DEMO_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
SETUP := UV_VERSION=$(UV_VERSION) PYTHON="$(PYTHON)" sh local/setup.sh "$(VENV)"
NEEDS := pyproject.toml local/setup.sh

.PHONY: help setup setup-test setup-workshop demo up doctor test test-unit lint bench clean distclean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.setup-local ## install Framegrid into .venv (Python 3.10 or newer; nothing else needed)

setup-test: $(VENV)/.setup-test ## the same with what the tests and linters need

setup-workshop: $(VENV)/.setup-workshop ## the same with Ultralytics and torch, to import and train models (6 GB)

$(VENV)/.setup-local: $(NEEDS)
	@$(SETUP) local

$(VENV)/.setup-test: $(NEEDS)
	@$(SETUP) local test

$(VENV)/.setup-workshop: $(NEEDS)
	@$(SETUP) local test workshop

demo: setup ## simulated street cameras to numbers in SQL, live; DEMO_SECONDS=60 stops by itself
	@$(BIN)/framegrid demo --seconds $(DEMO_SECONDS) --state-dir "$(STATE_DIR)" $(DEMO_ARGS)

up: setup ## the same with your cameras: make up CAMERAS=cameras.yaml
	@$(BIN)/framegrid up "$(CAMERAS)" --state-dir "$(STATE_DIR)"

doctor: setup ## what this machine has, and what that means here
	@$(BIN)/framegrid doctor

test: setup-test ## all tests: unit, integration, the demo from end to end
	$(BIN)/python -m pytest tests/unit tests/integration tests/e2e $(PYTEST_ARGS)

test-unit: setup-test ## unit tests alone: seconds, no network, no Ray
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

lint: setup-test ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-workshop ## measure this machine against its limits and Ultralytics, write bench.json
	$(BIN)/python -m framegrid_local.bench

clean: ## delete what runs left behind: the state folder with its database, caches
	@if [ -e "$(STATE_DIR)/postgres" ]; then rm -rf "$$(readlink -f "$(STATE_DIR)/postgres/cluster")"; fi
	rm -rf "$(STATE_DIR)" .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis bench.json
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## the same, and delete the installation
	rm -rf "$(VENV)"
