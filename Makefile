# Two commands for a newcomer: `make demo` and `make test`. Needs python3 >= 3.11, pip and git.
PYTHON ?= python3
BIN := .venv/bin
STEMS ?= simclr moco moco_v2 byol swav simsiam barlow_twins

.PHONY: help demo test test-fast learns lint format docs golden measure bench peers install install-dev clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: install  ## the whole job on real images: data, pretrain, evaluate, report (under 12 minutes)
	@scripts/demo.sh

test: install-dev  ## the whole test suite, what CI runs
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=15

test-fast: install-dev  ## without the tests that train for minutes
	$(BIN)/python -m pytest -m "not learns and not slow"

learns: install-dev  ## only the tests that small() recipes learn, with three seeds
	UNLABELED_SEEDS=3 $(BIN)/python -m pytest -m learns

lint: install-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## render the README's table from the catalog
	$(BIN)/python -m unlabeled.catalog --render

golden: install-dev  ## accept today's first losses (say why in the commit)
	$(BIN)/python -m tests.golden_losses

bench: peers  ## speed beside the peers, under 15 minutes, into benchmarks/RESULTS.md: make bench BENCH="--only knn"
	$(BIN)/python benchmarks/run.py $(BENCH)

measure: install  ## measure the small recipes with 3 seeds and store the figures: make measure STEMS=simclr
	@for stem in $(STEMS); do $(BIN)/unlabeled bench $$stem:small --seeds 3 || exit 1; done

peers: .venv-peers/installed .venv-spt/installed  ## make the environments of the peers that bench needs

.venv-peers/installed: .venv/installed scripts/peers.sh benchmarks/requirements-peers.txt
	@scripts/peers.sh .venv-peers benchmarks/requirements-peers.txt
	@touch $@

.venv-spt/installed: .venv/installed scripts/peers.sh benchmarks/requirements-peers.txt benchmarks/requirements-peers-stable-pretraining.txt
	@scripts/peers.sh .venv-spt benchmarks/requirements-peers-stable-pretraining.txt
	@touch $@

install: .venv/installed  ## make .venv with the library

install-dev: .venv/installed-dev  ## and with what the tests need

.venv/installed: pyproject.toml scripts/venv.sh
	@scripts/venv.sh "$(PYTHON)" .
	@touch $@

.venv/installed-dev: pyproject.toml scripts/venv.sh
	@scripts/venv.sh "$(PYTHON)" ".[dev]"
	@touch $@ .venv/installed

clean:  ## remove .venv and caches; runs/ stays
	rm -rf .venv .venv-peers .venv-spt .pytest_cache .mypy_cache .ruff_cache *.egg-info
