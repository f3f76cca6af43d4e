# Everything here works as the first command in a fresh clone: it needs Python 3.11 to 3.13 and make.
SHELL := /bin/sh
# Container images often set this one. What is installed here is compiled when it is first imported: without a place to
# keep it, every command would compile all that it imports again, and take twice as long.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
NEXTDAY := $(BIN)/nextday
# Two test processes on two cores: threads of OpenMP or BLAS that wait for a core on which the other process works cost
# many times their work.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
# Files all of whose tests have one of these marks: a run that leaves the mark out need not import them.
marked = $(shell grep -rlE --include='test_*.py' '^pytestmark = .*mark\.($(1))\b' tests | sed 's/^/--ignore=/')
# Two builds of TensorFlow overwrite each other's files: that of an earlier nextday goes before the CPU build comes.
ONE_BUILD = ls -d $(VENV)/lib/python3.*/site-packages/tensorflow-*.dist-info >/dev/null 2>&1 && \
  [ "$$(uname -sm)" = "Linux x86_64" ] && $(BIN)/python -m pip uninstall --quiet --yes tensorflow tensorflow-cpu 2>/dev/null || true
# Most of 60,000 installed files are never imported: Python compiles a module when it is, which halves the install.
# It begins with pip itself: the one that comes with an older Python takes half as long again.
# In a terminal it shows what it does; a log needs no 300 lines of it.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check $(shell [ -t 2 ] || echo --quiet) install --no-compile --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help forecast test proofs check lint format types bench yahoo architecture wheel schemas notebook docs clean mutants

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

forecast: $(VENV)/.installed  ## Forecast the next session on the sample prices, then write the reports
	$(NEXTDAY) forecast

test: $(VENV)/.installed-dev  ## All tests but the slow proofs
	$(PYTEST) -m "not proof and not bench" $(call marked,proof|bench)

proofs: $(VENV)/.installed-dev  ## Slow proofs: real servers, kills, simulated months
	@# Only files with proofs: to import all takes a minute. Backwards, for the long ones are those of tests/proofs.
	$(PYTEST) -m proof $$(grep -rl --include='test_*.py' mark.proof tests | sort -r)

check: $(VENV)/.installed-dev lint  ## Format, lint, types, import rules and the fast tests
	@# mypy works on one core while the tests begin on the other: with no cache of its own it takes most of a minute.
	@types=$$(mktemp); trap 'rm -f "$$types"' EXIT; $(BIN)/mypy >"$$types" 2>&1 & \
	$(PYTEST) -q -m "not proof and not slow and not bench" $(call marked,proof|slow|bench); tests=$$?; \
	wait $$! || tests=$$?; cat "$$types"; exit $$tests

lint: $(VENV)/.installed-dev  ## Format check, lint and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-dev  ## Strict type check
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## Measure the speed (minutes)
	$(BIN)/python -m pytest tests/bench -m bench -s

# Every fifth mutant, by its number in its function: the same ones each time. MUTANTS='*' takes them all.
MUTANTS = *__mutmut_*[37]
mutants: $(VENV)/.installed-mutation  ## Do the tests of the core notice small changes of it? (a quarter of an hour)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/mutmut run '$(MUTANTS)'
	@$(BIN)/mutmut results --all true | $(BIN)/python -m tests.support.mutant_table

yahoo: $(VENV)/.installed-dev  ## A simulated Yahoo on this machine, to try nextday offline (OPTIONS="--clock 2026-10-01T22:00")
	@$(BIN)/python -m tests.support.yahoo_by_hand $(OPTIONS)

architecture: $(VENV)/.created  ## Draw docs/architecture.svg from the imports
	$(BIN)/python docs/draw_architecture.py

wheel: $(VENV)/.installed-dev  ## Build the source distribution and the wheel: dist/
	$(BIN)/python -m build --no-isolation

schemas: $(VENV)/.installed  ## Write docs/schemas from the models of the JSON documents
	$(BIN)/python -m docs.write_schemas

notebook: $(VENV)/.installed-dev  ## Execute the notebook of examples/ again
	@$(BIN)/python -m docs.execute_notebook

docs: $(VENV)/.installed-docs  ## The documentation as a site: build/site/index.html
	@$(BIN)/python -m docs.build_site

clean:  ## Remove the environment and the caches, never the workspace data/
	rm -rf $(VENV) mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@python=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "nextday needs Python 3.11, 3.12 or 3.13: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; fi; \
	echo "Making $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV) || { echo "This Python cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2; exit 2; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml requirements.lock
	@echo "Installing nextday and its pinned packages (a few minutes, 2.4 GB)"
	@$(INSTALL) pip
	@$(ONE_BUILD)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml requirements.lock
	@echo "Installing nextday, its pinned packages and the tools of its tests (a few minutes, 2.9 GB)"
	@$(INSTALL) pip
	@$(ONE_BUILD)
	@$(INSTALL) --editable '.[dev,dask,docs]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing what builds the documentation (90 MB)"
	@$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-dev
	@echo "Installing what tests the tests (26 MB)"
	@$(INSTALL) --editable '.[mutation]'
	@touch $@
