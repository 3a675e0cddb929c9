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
# The load test: an installation of yours (else one is started), Locust's web page, `framegrid load --help`.
TARGET ?=
LOAD_WEB ?=
LOAD_ARGS ?=
# Kubernetes: `kuberay` or `static`; names of the images.
RAY_MODE ?= kuberay
KIND_CLUSTER ?= framegrid
KUBERAY_VERSION := 1.7.0
REGISTRY ?= localhost
TAG ?= dev

BIN := $(VENV)/bin
SETUP := UV_VERSION=$(UV_VERSION) PYTHON="$(PYTHON)" sh local/setup.sh "$(VENV)"
NEEDS := pyproject.toml local/setup.sh

.PHONY: help setup setup-test setup-load setup-workshop demo load run up down images sbom chart chart-tools chart-docs autoscaling-docs doctor test test-unit test-tools test-faults test-cluster bench-cluster lint bench clean distclean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.setup-local ## install Framegrid into .venv (Python 3.10 or newer; nothing else needed)

setup-test: $(VENV)/.setup-test ## the same with what the tests and linters need

setup-load: $(VENV)/.setup-load ## the same with Locust, for the load test

setup-workshop: $(VENV)/.setup-workshop ## the same with Ultralytics and torch, to import and train models (6 GB)

$(VENV)/.setup-local: $(NEEDS)
	@$(SETUP) local

$(VENV)/.setup-test: $(NEEDS)
	@$(SETUP) local test

$(VENV)/.setup-load: $(NEEDS)
	@$(SETUP) local load

$(VENV)/.setup-workshop: $(NEEDS)
	@$(SETUP) local test workshop

demo: setup ## simulated street cameras to numbers in SQL, live; DEMO_SECONDS=60 stops by itself
	@$(BIN)/framegrid demo --seconds $(DEMO_SECONDS) --state-dir "$(STATE_DIR)" $(DEMO_ARGS)

run: setup ## the same with your cameras: make run CAMERAS=cameras.yaml
	@$(BIN)/framegrid up "$(CAMERAS)" --state-dir "$(STATE_DIR)"

up: ## everything on Kubernetes on this machine: kind, images, operator, chart; needs Docker, kind, kubectl, helm
	@KIND_CLUSTER=$(KIND_CLUSTER) RAY_MODE=$(RAY_MODE) TAG=$(TAG) KUBERAY_VERSION=$(KUBERAY_VERSION) k8s/kind-up

down: ## remove what `make up` made, data included
	kind delete cluster --name $(KIND_CLUSTER)

images: ## build the container images: make images REGISTRY=… TAG=…
	REGISTRY=$(REGISTRY) TAG=$(TAG) k8s/images build

sbom: ## what is in each image, as CycloneDX, into build/sbom; needs uv
	k8s/images sbom build/sbom

chart-tools: ## helm, kubeconform and kind for the chart's tests, built by Go into the user's cache
	k8s/tools

chart: ## pack the chart for images of REGISTRY and TAG into build/; its version is TAG without the v
	rm -rf build/chart && mkdir -p build/chart && cp -R charts/framegrid build/chart/
	sed -i.orig -e 's|^  registry: .*|  registry: $(REGISTRY)|' -e '/^image:/,/^ray:/s|^  tag: .*|  tag: "$(TAG)"|' build/chart/framegrid/values.yaml
	helm package build/chart/framegrid --destination build --version $(TAG:v%=%) --app-version $(TAG:v%=%)

chart-docs: setup-test ## the table of values in the chart's README, from values.yaml
	$(BIN)/python charts/values_table.py

autoscaling-docs: setup-test ## the table and drawing in serve/AUTOSCALING.md, simulated anew: a minute
	$(BIN)/python -m framegrid_local.bench.scaling

doctor: setup ## what this machine has, and what that means here
	@$(BIN)/framegrid doctor

test: setup-test ## all tests: unit, integration, the demo from end to end
	$(BIN)/python -m pytest tests/unit tests/integration tests/e2e $(PYTEST_ARGS)

test-unit: setup-test ## unit tests alone: seconds, no network, no Ray
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-tools: setup-test ## schema bi through a real Apache Superset, installed once (800 MB)
	$(BIN)/python -m pytest tests/integration -m tools $(PYTEST_ARGS)

test-faults: setup-test ## databases, processes and pods killed at chosen moments; wants a quiet machine
	$(BIN)/python -m pytest tests/integration -m faults $(PYTEST_ARGS)

test-cluster: setup-test ## the chart on a real Kubernetes brought up on this machine; root on Debian, no Docker
	$(BIN)/python -m pytest tests/e2e/test_cluster.py -m cluster $(PYTEST_ARGS)

bench-cluster: setup-test ## the figures of the chart's README, on the same cluster: sizes, take-over, API requests, memory
	PYTHONPATH=tests $(BIN)/python -m e2e.installation.measure

lint: setup-test ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/e2e/cluster
	$(BIN)/lint-imports

bench: setup-workshop ## measure this machine against its limits and Ultralytics, write bench.json
	$(BIN)/python -m framegrid_local.bench

load: setup-load ## cameras and people load Serve: capacity, shapes, report; TARGET=http://… loads yours, LOAD_WEB=1
	@$(BIN)/framegrid load --target "$(TARGET)" $(if $(LOAD_WEB),--web) --state-dir "$(STATE_DIR)" $(LOAD_ARGS)

clean: ## delete what runs left behind: the state folder with its database, caches
	@if [ -e "$(STATE_DIR)/postgres" ]; then rm -rf "$$(readlink -f "$(STATE_DIR)/postgres/cluster")"; fi
	rm -rf "$(STATE_DIR)" .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis bench.json
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## the same, and delete the installation
	rm -rf "$(VENV)"
