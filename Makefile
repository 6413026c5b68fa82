# One command each; every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
STUDY ?=
OUT ?= demo
INDICATION ?=
PRIOR ?=
MINUTES ?= 2
CHECKPOINT ?= hub_cards/trrg-small
TRANSFORMERS ?= ../transformers
TOLD = $(if $(INDICATION),--indication "$(INDICATION)") $(if $(PRIOR),--prior "$(PRIOR)")

.DEFAULT_GOAL := help
.PHONY: help demo chat space test test-slow test-latest test-oldest publish-check lint types check lock clean fuzz bench \
  test-contract

help: ## list the targets
	@grep -hE '^[a-z.-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# The stamp, not the folder, says that the environment is complete: a broken install is tried again.
.venv/.installed: requirements.lock pyproject.toml
	@set -e; python=; \
	for candidate in python3.11 python3.12 python3.13 python3; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "TRRG needs Python 3.11 or newer: none of python3.11, python3.12, python3.13, python3 on PATH is." >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$($$python --version) has no venv module: install it (on Debian and Ubuntu: python3-venv)." >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$($$python --version), pinned by requirements.lock"; \
	test -x .venv/bin/python || $$python -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Gradio is laid over .venv: it takes Pillow down, and the rest is tested with the newer one.
.venv-space/.installed: .venv/.installed hub_cards/space/requirements.lock
	.venv/bin/python -m venv --without-pip .venv-space
	@base=$$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])'); \
	own=$$(.venv-space/bin/python -c 'import site; print(site.getsitepackages()[0])'); \
	echo "import site; site.addsitedir('$$base')" > "$$own/base.pth"
	.venv/bin/python -m pip --python .venv-space/bin/python install --quiet --requirement hub_cards/space/requirements.lock
	@touch $@

.venv: .venv/.installed ## set up .venv from requirements.lock (again when the lock changes)

demo: .venv/.installed ## report, clue table and picture; on your own study: make demo STUDY=path
	.venv/bin/python -m hub_cards.demo $(if $(STUDY),"$(STUDY)") $(TOLD) --out "$(OUT)"

chat: .venv/.installed ## the same, then questions and corrections in the terminal: make chat STUDY=path
	.venv/bin/python -m hub_cards.demo $(if $(STUDY),"$(STUDY)") $(TOLD) --out "$(OUT)" --chat

space: .venv-space/.installed ## the page of the Space on this machine, with examples; another checkpoint: CHECKPOINT=path
	.venv/bin/python hub_cards/publish.py "$(CHECKPOINT)" --out "$(OUT)/$(notdir $(CHECKPOINT))" --space "$(OUT)/space"
	HF_HUB_OFFLINE=1 TRRG_CHECKPOINT="$(OUT)/$(notdir $(CHECKPOINT))" .venv-space/bin/python "$(OUT)/space/app.py"

test: .venv/.installed ## the tests (offline, two processes)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2

test-slow: .venv/.installed ## the tests that take minutes
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow

test-latest: .venv/.installed ## demo, published folder and main tests with the newest releases that pyproject.toml allows
	.venv/bin/python tests/releases.py latest

test-oldest: .venv/.installed ## the same with the oldest
	.venv/bin/python tests/releases.py oldest

test-contract: .venv/.installed ## Transformers' own common tests on TRRG, from a checkout: TRANSFORMERS=path
	@test -f "$(TRANSFORMERS)/tests/generation/test_utils.py" || { echo "$(TRANSFORMERS) is no checkout of transformers \
	(the packages of the registry lack some tests): git clone it at the release of requirements.lock, then make \
	test-contract TRANSFORMERS=path" >&2; exit 1; }
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_CHECKOUT="$(TRANSFORMERS)" .venv/bin/python -m pytest -n 2 -o addopts= \
	  -W ignore -rfE tests/contract

fuzz: .venv/.installed ## hostile pictures, texts, records, configurations, checkpoints: make fuzz MINUTES=60
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv/bin/python -m tests.fuzz.run --minutes "$(MINUTES)"

bench: .venv/.installed ## speed of everything beside its baseline, some minutes; writes bench/: table, JSON, plots
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv/bin/python -m evaluation.bench

publish-check: .venv/.installed ## install package, Space and endpoint in clean environments without the lock, a report each
	.venv/bin/python -m hub_cards.publish_check

lint: .venv/.installed ## ruff: rules and format; mlinter: Transformers' rules for a model's repository
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mlinter --no-progress hub_cards/trrg-small

types: .venv/.installed ## mypy
	.venv/bin/mypy

check: lint types test ## lint, types, test

lock: .venv/.installed ## write requirements.lock from .venv, the Space's from .venv-space; torch's CUDA libraries exist for Linux only
	.venv/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	  | sed -E '/^(nvidia|cuda|triton)/ s/$$/ ; platform_system == "Linux"/' > requirements.lock
	test ! -d .venv-space || .venv/bin/python -m pip freeze --path .venv-space/lib/python3*/site-packages \
	  > hub_cards/space/requirements.lock

clean: ## remove caches and what the demo wrote; keeps .venv and runs/
	rm -rf build dist demo bench .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
