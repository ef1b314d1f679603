# Needs Python 3.11 or newer and make; every target builds the environment it needs.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make bench
#
# The second line is for Linux, where PyPI's torch brings several GB of CUDA.

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VENV ?= .venv
# The extra of jax with the device of test-accelerator: cuda12, cuda13 or tpu.
ACCELERATOR ?= cuda13
# More pip requirements, such as jax==0.10.0; read when VENV is filled.
JAX ?=
PYTEST_ARGS ?= -n 2 --dist loadfile

# Set in some containers, where each of the many processes of the tests would compile
# all modules that it imports: seconds for each.
unexport PYTHONDONTWRITEBYTECODE

RUN := $(VENV)/bin/
PIP := $(RUN)python -m pip --disable-pip-version-check -qq
# Each "name>=bound" of what users and the tests need, as name==bound.
OLDEST = $(shell sed -E '/^\[build-system\]/,/^$$/d; /^(dev|docs|release) = /d' pyproject.toml \
	| sed -n 's/.*"\([a-zA-Z][a-zA-Z_-]*\)>=\([0-9.]*\)".*/\1==\2/p')

.DEFAULT_GOAL := help
# Two targets must not install into one environment at once.
.NOTPARALLEL:
.PHONY: help demo test test-oldest test-accelerator test-site lint bench \
	bench-accelerator gallery docs docs-serve release-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## initialize a model and show what was made
	$(RUN)python -m jaxinit demo

test: $(VENV)/.test ## run the tests, doctests included
	$(RUN)python -m pytest $(PYTEST_ARGS)

test-oldest: ## run the tests on the lower bounds of pyproject.toml
	$(MAKE) test VENV=$(VENV)-oldest JAX='$(OLDEST)'

test-accelerator: ## run the tests that say something on a GPU or TPU, there
	JAX_PLATFORMS= XLA_PYTHON_CLIENT_PREALLOCATE=false $(MAKE) test \
		VENV=$(VENV)-$(ACCELERATOR) JAX='jax[$(ACCELERATOR)]' \
		PYTEST_ARGS='-m accelerator'

test-site: $(VENV)/.docs $(VENV)/.test ## build the site and open every page in Chromium
	$(RUN)python -m pytest -m site tests/test_site.py

gallery: $(VENV)/.docs ## draw a picture of every initializer into docs/gallery/
	$(RUN)python tools/gallery.py

docs: gallery ## build the site into site/; a broken link or reference fails
	$(RUN)zensical build --strict --clean

docs-serve: gallery ## show the site on this machine, and follow edits
	$(RUN)zensical serve

release-check: $(VENV)/.release ## build, and try the wheel in empty environments
	$(RUN)python tools/release_check.py

lint: $(VENV)/.dev ## ruff check, ruff format --check, pyright
	$(RUN)ruff check
	$(RUN)ruff format --check
	$(RUN)pyright --pythonpath $(RUN)python

bench: $(VENV)/.bench ## run every benchmarks/bench_*.py
	set -e; for file in benchmarks/bench_*.py; do $(RUN)python $$file; done

# PyTorch builds on the same device where its own wheel has CUDA.
bench-accelerator: VENV := $(VENV)-$(ACCELERATOR)
bench-accelerator: ## run the benchmarks that say something on a GPU or TPU, there
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(MAKE) $(VENV)/.bench \
		VENV=$(VENV) JAX='jax[$(ACCELERATOR)]'
	for subject in draws orthogonal memory; do \
		timeout 300 $(VENV)/bin/python benchmarks/bench_$$subject.py || \
		echo "$$subject: failed, or not done after 300 s"; done
	$(VENV)/bin/python benchmarks/bench_models.py --repeats 1 --limit 300

clean: ## remove environments, caches and builds
	rm -rf .venv .venv-* build dist site docs/gallery .cache .coverage .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.runtime: NEEDS = -e '.[flax]'
$(VENV)/.test: NEEDS = -e '.[all]' --group test
$(VENV)/.dev: NEEDS = -e '.[all]' --group test --group dev
$(VENV)/.dev: HOLDS = $(VENV)/.test # the same packages, so that they come once
$(VENV)/.bench: NEEDS = -e '.[all]' --group bench
$(VENV)/.docs: NEEDS = -e '.[all]' --group docs
$(VENV)/.release: NEEDS = --group release

$(addprefix $(VENV)/.,runtime test dev bench docs release): pyproject.toml | $(VENV)/.pip
	@echo "Installing for $(@F) into $(VENV) ..."
	@$(PIP) install --no-compile $(NEEDS) $(JAX) # imports compile what they need
	@touch $@ $(HOLDS)

# pip before 25.1 knows no --group.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@
