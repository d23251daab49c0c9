# make demo   draws from the pretrained model, trains from it and evaluates: runs/pretrained_colon_ihc,
#             then runs/demo
# make test   lints, checks the types and runs the tests
# make campaign  runs the tests that take long and that make test leaves out
# make docs   serves the documentation at http://localhost:8000; make docs-check builds it strictly
# make clean  removes the environment; runs/ stays
#
# PYTHON=python3.12 chooses the interpreter (3.11 to 3.13); ACCEL=cuda12 or ACCEL=tpu the device.

PYTHON ?= python3
ACCEL ?=
PY := .venv/bin/python
# A file is for one worker, in the order of tests/conftest.py.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
INSTALLED := .venv/.installed-$(or $(ACCEL),cpu)

.PHONY: demo test campaign docs docs-check clean

# Of the cores as many as divide the config's batches.
CORES = $(shell $(PY) -c 'import os; print(min(16, 1 << os.cpu_count().bit_length() - 1))')

# Every step allocates its memory anew; in huge pages, that costs it a fifth less time.
RUN = GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(PY) -m wmgm_jax.main --cpu_devices=$(CORES)

# How long it trains stands in the config.
demo: $(INSTALLED)
	$(RUN) --mode=sample --workdir=pretrained:colon_ihc
	$(RUN) --config=configs/colon_ihc_demo.py --workdir=runs/demo --init_from=pretrained:colon_ihc

test: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	$(PY) -m basedpyright
	$(PYTEST) -m 'not campaign'

# What takes long: runs that are killed at random instants, several hosts, every kind of damage.
campaign: $(INSTALLED)
	$(PYTEST) -m campaign

$(INSTALLED): requirements.txt setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'wmgm_jax needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	@# Twice quiet: setuptools warns of every editable installation.
	$(PY) -m pip install -qq -r requirements.txt $(if $(ACCEL),--editable '.[$(ACCEL)]')
	touch $@

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve

# Fails on broken links and on docstrings that do not parse. Leaves nothing behind.
docs-check: .venv/.installed-docs
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	  && NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --site-dir "$$folder"

.venv/.installed-docs: setup.cfg | $(INSTALLED)
	$(PY) -m pip install -qq --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv
