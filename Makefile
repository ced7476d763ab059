# Every target does the set-up that it needs, and is quick where that is done already.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOADERS := .venv-loaders
STAMP := $(VENV)/.set-up
CORES := $(shell nproc)
FIRST_LOOK := runs/first-look
DEMO := runs/demo
OUTLINES := runs/demo-outlines
DEMO_POLICY := runs/demo-policy
REWARD := runs/reward
POLICY := runs/policy
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export DO_NOT_TRACK = 1

.PHONY: help setup first-look demo demo-policy readme-picture try-python resolve reward reward-weights policy policy-weights
.PHONY: compare test unit integration browser slow gpu faults chaos-local edits bends lint types layers docs schemas serve studio loaders
.PHONY: benchmarks clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## the virtual environment with everything in it

$(STAMP): pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 2; }
	@echo "set-up: installing packages into $(VENV)"; started=$$(date +%s); \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' && \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps groundingdino-py && \
	echo "set-up: $$(( $$(date +%s) - started )) s"
	@touch $@

first-look: $(STAMP)  ## 24 procedural scenes and their page, in half a minute, into runs/first-look
	@started=$$(date +%s); \
	$(BIN)/regionwise build --run $(FIRST_LOOK) --scenes 24 --part-requests 8 --workers $(CORES) && \
	$(BIN)/regionwise report $(FIRST_LOOK) && \
	echo "first look: $$(( $$(date +%s) - started )) s; open $(FIRST_LOOK)/report.html"

demo: $(STAMP)  ## the main job on real photographs and procedural scenes, and a reward trained on it, into runs/demo
	@echo "demo: three parts, eight minutes on two cores: a dataset of 364 requests with its page (2 min), a reward" && \
	echo "trained on it and tested (5 min), and the photographs outlined by a small Sam (1 min); Ctrl-C and 'make demo' go on"
	@$(BIN)/python examples/photos/copy_photos.py
	@started=$$(date +%s); \
	$(BIN)/regionwise build --run $(DEMO) --config examples/demo.toml --workers $(CORES) && \
	$(BIN)/regionwise verify $(DEMO)/dataset && \
	$(BIN)/regionwise report $(DEMO) && \
	echo "dataset: $$(( $$(date +%s) - started )) s; look at $(DEMO)/report.html while the reward trains" && \
	started=$$(date +%s) && \
	$(BIN)/regionwise train-reward --run $(DEMO) --config examples/demo-reward.toml --with-rivals && \
	$(BIN)/regionwise evaluate --run $(DEMO) --left-out compression --sources 200 && \
	$(BIN)/regionwise report $(DEMO) && \
	echo "reward: $$(( $$(date +%s) - started )) s" && started=$$(date +%s) && \
	$(BIN)/regionwise build --run $(OUTLINES) --config examples/outlines.toml --workers $(CORES) && \
	$(BIN)/regionwise report $(OUTLINES) && \
	echo "outlines: $$(( $$(date +%s) - started )) s" && \
	echo "look at $(DEMO)/report.html; the data is in $(DEMO)/dataset (manifest.json, README.md), the reward in" && \
	echo "$(DEMO)/reward (what its tests say: metrics.json); the same photographs outlined by the segmenter sam:tiny:" && \
	echo "$(OUTLINES)/report.html. An editing policy rewarded region by region, in five minutes: make demo-policy"

demo-policy: $(STAMP)  ## sixteen updates of a small editing policy by the rewards of regions, into runs/demo-policy
	@echo "demo-policy: some five minutes on two cores: plain scenes (40 s), a policy trained on them and tested (4 min)"
	@started=$$(date +%s); \
	$(BIN)/regionwise build --run $(DEMO_POLICY) --config examples/policy-data.toml --workers $(CORES) && \
	$(BIN)/regionwise train-policy --run $(DEMO_POLICY) --config examples/demo-policy.toml && \
	$(BIN)/regionwise report $(DEMO_POLICY) && \
	echo "policy: $$(( $$(date +%s) - started )) s; before and after: $(DEMO_POLICY)/report.html"

reward: $(STAMP)  ## a region reward and its blind rivals, trained on procedural scenes and tested, into runs/reward
	@started=$$(date +%s); \
	$(BIN)/regionwise build --run $(REWARD) --config examples/reward-data.toml --workers $(CORES) && \
	$(BIN)/regionwise train-reward --run $(REWARD) --config examples/reward.toml --with-rivals && \
	$(BIN)/regionwise evaluate --run $(REWARD) --left-out compression && \
	$(BIN)/regionwise report $(REWARD) && \
	echo "reward: $$(( $$(date +%s) - started )) s" && \
	echo "look at $(REWARD)/report.html; what the tests say is in $(REWARD)/reward/metrics.json"

reward-weights: $(STAMP)  ## the reward's weights that come with the product, made anew, and its rivals' (half an hour)
	@$(BIN)/regionwise build --run runs/reward-weights --config examples/reward-weights-data.toml --workers $(CORES) && \
	$(BIN)/regionwise train-reward --run runs/reward-weights --config examples/reward-weights.toml --with-rivals && \
	$(BIN)/python -m training.reward.shipped runs/reward-weights

policy: $(STAMP)  ## a policy trained with rewards of regions on plain scenes, into runs/policy
	@started=$$(date +%s); \
	$(BIN)/regionwise build --run $(POLICY) --config examples/policy-data.toml --workers $(CORES) && \
	$(BIN)/regionwise train-policy --run $(POLICY) --config examples/policy.toml && \
	$(BIN)/regionwise report $(POLICY) && \
	echo "policy: $$(( $$(date +%s) - started )) s" && \
	echo "look at $(POLICY)/report.html; the policy is in $(POLICY)/policy/policy (evaluation.json: before and after)"

policy-weights: $(STAMP)  ## the tiny policy's weights that come with the product, made anew (an hour)
	@$(BIN)/python -m training.policy.tiny.pretrain --out runs/policy-weights && \
	$(BIN)/python -m training.policy.tiny.ship runs/policy-weights

compare: $(STAMP)  ## do regions help? Flow-GRPO, SpatialFlow-GRPO and two control arms, three seeds (two hours; goes on when stopped)
	@$(BIN)/regionwise build --run $(POLICY) --config examples/policy-data.toml --workers $(CORES) && \
	$(BIN)/python -m benchmarks.policy_compare

# One thread in every process of the tests: here, because a plugin of pytest imports NumPy before the first conftest.
test unit integration browser slow gpu chaos-local edits bends: export OMP_NUM_THREADS = 1
test unit integration browser slow gpu chaos-local edits bends: export OPENBLAS_NUM_THREADS = 1
# Folders of tests lie in memory where there is room: tests write many small whole files, and a disk is waited for.
IN_MEMORY := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 8000000 ] 2>/dev/null && echo /dev/shm)
ifneq ($(IN_MEMORY),)
test unit integration browser gpu: export PYTEST_DEBUG_TEMPROOT ?= $(IN_MEMORY)
endif
# Byte code is kept, or every worker and every process that a test starts would compile it anew.
unexport PYTHONDONTWRITEBYTECODE

# A file at a time on each core: what a file builds or starts is there once.
BY_FILE := --dist loadfile --numprocesses
# One more than cores, for these wait for servers; in the order given, which has the long files first.
WITH_SERVERS := --no-loadscope-reorder $(BY_FILE) $(shell expr $(CORES) + 1) --durations 10

test: gpu unit chromium label-studio  ## all tests, as CI runs them
	@$(BIN)/python -m pytest tests/browser tests/integration -m "not slow" $(WITH_SERVERS)

unit: $(STAMP)
	@$(BIN)/python -m pytest tests/unit -m "not slow" $(BY_FILE) $(CORES) --durations 10

integration: $(STAMP) label-studio
	@$(BIN)/python -m pytest tests/integration -m "not slow" $(WITH_SERVERS)

browser: $(STAMP) chromium label-studio
	@$(BIN)/python -m pytest tests/browser $(WITH_SERVERS)

slow: $(STAMP)  ## the long proofs: 20 kills during a build, 500 prompts, hundreds of examples of each property
	@$(BIN)/python -m pytest tests/unit tests/integration -m "slow or hypothesis" --hypothesis-profile slow

gpu: $(STAMP)  ## the checks that need a GPU; where there is none each says so
	@$(BIN)/python -m pytest tests/gpu -rs

faults: $(STAMP)  ## puts in one-line faults, one at a time, and asks whether the unit tests find them (an hour)
	@$(BIN)/python -m tests.faults.run

.PHONY: chromium label-studio
label-studio: $(STAMP)
	@$(BIN)/python -m annotation.studio.installation

chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else echo "chromium is missing and only root may install it: sudo apt-get install chromium" >&2; exit 2; fi; }

chaos-local: $(STAMP) label-studio  ## kills, full disks, moved folders and second processes, in all commands that write (20 min)
	@$(if $(IN_MEMORY),TMPDIR=$(IN_MEMORY) )$(BIN)/python -m tests.chaos.run --json build/chaos.json

edits: $(STAMP)  ## 1,000 edits of tars, rows, manifest, card and folder: each found, and mended byte for byte (3 min)
	@$(if $(IN_MEMORY),TMPDIR=$(IN_MEMORY) )$(BIN)/python -m tests.edits.run --json build/edits.json

bends: $(STAMP)  ## 300 bendings of requests, runs, datasets and annotations, one place each (a minute); SEED=2 draws others
	@$(if $(IN_MEMORY),TMPDIR=$(IN_MEMORY) )$(BIN)/python -m tests.bends.run 300 --seed $(or $(SEED),1) --json build/bends.json

lint: $(STAMP)  ## ruff, and that generated files are current
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m schemas.json_schema --check && \
	$(BIN)/python -m annotation.studio.interface --check

types: $(STAMP)  ## mypy, strict
	@$(BIN)/mypy

layers: $(STAMP)  ## which part may import which
	@$(BIN)/lint-imports

schemas: $(STAMP)  ## docs/schemas and the answers in annotation/studio/labels.xml from the records
	@$(BIN)/python -m schemas.json_schema && $(BIN)/python -m annotation.studio.interface

resolve: $(VENV)/.resolved  ## pip's resolver, dry: the pins of constraints.txt for the newest Python that is supported

$(VENV)/.resolved: $(STAMP)
	@$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --only-binary=:all: --python-version 3.13 \
	--target build/resolved --constraint constraints.txt --editable '.[dev]' && echo "every pin resolves for Python 3.13"
	@touch $@

try-python:  ## sets up with another interpreter and builds a few scenes: make try-python PYTHON=python3.13
	@$(MAKE) --no-print-directory setup VENV=.venv-$(notdir $(PYTHON))
	@run=$$(mktemp -d)/scenes; .venv-$(notdir $(PYTHON))/bin/regionwise build --run $$run --scenes 8 --scene-size-px 64 && \
	.venv-$(notdir $(PYTHON))/bin/regionwise verify $$run/dataset && .venv-$(notdir $(PYTHON))/bin/python --version

readme-picture: $(STAMP)  ## docs/example.png, from runs/demo
	@$(BIN)/python examples/readme_picture.py $(DEMO) docs/example.png

serve: $(STAMP)  ## a Prefect server, worker and the deployments on loopback, data in runs/prefect
	@$(BIN)/python -m flows.deployments.serve

studio: $(STAMP)  ## a Label Studio on loopback with the demo to rate, data in runs/studio
	@test -f $(DEMO)/dataset/manifest.json || $(MAKE) demo
	@$(BIN)/python -m flows.studio --run $(DEMO)

loaders: $(STAMP)  ## a dataset in the Hub's loader, in an environment of its own (.venv-loaders)
	@test -x $(LOADERS)/bin/python || $(PYTHON) -m venv $(LOADERS)
	@$(LOADERS)/bin/python -m pip install --quiet --requirement tests/loaders/constraints.txt
	@REGIONWISE_LOADERS_PYTHON=$(LOADERS)/bin/python $(BIN)/python -m pytest tests/loaders

benchmarks: $(STAMP)  ## every benchmark, results into benchmarks/results
	@for name in difference oracle gates instructions consensus; do $(BIN)/python -m benchmarks.$$name; done

clean:  ## the virtual environment and caches; runs stay
	rm -rf $(VENV) .venv-studio $(LOADERS) *.egg-info .mypy_cache .ruff_cache .import_linter_cache
