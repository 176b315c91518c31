# One command for each need. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# uv from the PATH, else the one the setup scripts put into ./.uv.
export PATH := $(PATH):$(CURDIR)/.uv/bin
RUN := uv run --no-sync --frozen
PYTHON := $(RUN) python

.PHONY: help setup env demo test e2e-temporal check layers format coverage bench chaos mutate mutate-protocol simulate-long lock docs clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' \
	  | while IFS=$$'\t' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

demo: ## install its parts, listed first; a sentence in, a mail out
	@scripts/setup-demo.sh
	@$(RUN) cpa demo $(ARGS)

setup: ## what the tests need: packages, browser, mail server, Redmine, Temporal
	@scripts/setup-tests.sh

test: setup ## all tests, with times; GROUPS="unit contracts" picks some
	@$(PYTHON) scripts/run_tests.py $(GROUPS)

e2e-temporal: setup ## the demo and all of tests/e2e but the storm of kills, on Temporal
	CPA_TEST_ENGINE=temporal $(PYTHON) -m pytest -q --ignore=tests/e2e/test_kill.py tests/e2e tests/demo/test_story.py

env: # the locked packages alone, set up if they are not there yet
	@test -x .venv/bin/python || scripts/setup-tests.sh

check: env ## lint, format, types, layers, lock, branch coverage of the core
	uv lock --check
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	@$(MAKE) -j2 --output-sync=target layers coverage

layers: env # types (of the tests: their calls), and who may import whom
	$(RUN) mypy
	$(RUN) mypy tests
	$(RUN) lint-imports --no-logo --cache-dir .cache/import-linter
	$(PYTHON) -m pytest -q tests/architecture

coverage: env ## of cpa.core, by its own tests; less than 100 % fails
	@# Without the tests of how work grows, which count every line that runs and cover nothing more.
	$(RUN) coverage run -m pytest -q tests/core -k "not grows_no_faster and not quadratic_work"
	$(RUN) coverage report --fail-under=100 --skip-covered

format: env ## put imports and layout in order
	$(RUN) ruff check --fix-only --select I .
	$(RUN) ruff format .

bench: env ## figures of this machine: core, engine, store, peers
	$(PYTHON) benchmarks/core.py $(ARGS)
	$(PYTHON) benchmarks/engine.py $(ARGS)
	$(PYTHON) benchmarks/store.py $(ARGS)
	$(PYTHON) benchmarks/agents.py $(ARGS)
	UV_PROJECT_ENVIRONMENT=.cache/peers uv run --frozen --group bench python benchmarks/peers.py $(ARGS)

chaos: setup ## more kills than the tests do, on both engines, and more disorder: KILLS=500 COURSES=50000
	CPA_CHAOS_KILLS=$${KILLS:-500} CPA_WAITING_JOBS=$${WAITING:-1000} $(PYTHON) -m pytest -m "chaos or soak" --timeout=5400 -s tests
	CPA_COURSES=$${COURSES:-50000} $(PYTHON) -m pytest --timeout=7200 tests/orchestrator/test_disorder.py
	CPA_CHAOS_KILLS=$${KILLS:-500} CPA_TEST_ENGINE=temporal $(PYTHON) -m pytest --timeout=5400 -s tests/e2e/test_kill.py

mutate: env ## change the core in many small ways; 90 % must be noticed
	$(PYTHON) scripts/mutate.py $(ARGS)

mutate-protocol: env ## seed bugs into the protocol; the simulator must notice all
	$(PYTHON) scripts/mutate_protocol.py $(ARGS)

simulate-long: env ## a long soak of core and scheduler (CORE=2000000 RUNS=50000 SEED=1000000); prints figures
	$(RUN) cpa simulate --core --seed $${SEED:-1000000} --runs $${CORE:-2000000} --workers $${WORKERS:-$$(nproc)}
	$(RUN) cpa simulate --seed $${SEED:-1000000} --runs $${RUNS:-50000} --workers $${WORKERS:-$$(nproc)}

docs: env ## rewrite the generated parts of the documents
	$(PYTHON) scripts/write_docs.py

lock: ## resolve the dependencies anew
	uv lock --upgrade

clean: ## remove what the tools wrote; keeps .venv and data
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* dist build mutants
