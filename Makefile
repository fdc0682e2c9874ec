# The front door. Each target makes what it needs: a virtual environment in .venv, filled as far as the target asks.
# Everything but a target's own result goes to stderr, so that `make demo ARGS="-o json"` can be piped.
#   PYTHON=python3.13   another interpreter (3.11 or later)        ARGS="..."   passed on to the target's command

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
CODE   := $(wildcard .ci src tests examples benchmarks)

export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
export UV_NO_PROGRESS := 1

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench docs servers clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP)-demo ## replay real market data through an embedded server, live (ARGS="--for 20s -o json")
	@$(BIN)/mainstem demo $(ARGS)

test: $(STAMP)-test servers ## run every test against every server that can be had (ARGS="-k lease")
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)-lint ## ruff, mypy strict, pyright strict, import layers
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy src
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(STAMP)-lint ## sort imports and lay out the code
	@$(BIN)/ruff check --fix --exit-zero --quiet $(CODE)
	@$(BIN)/ruff format $(CODE)

bench: $(STAMP)-bench servers ## measure against redis-benchmark, redis-py and FastStream (ARGS="-o json")
	@$(BIN)/mainstem bench $(ARGS)

docs: $(STAMP)-docs ## write the API reference to build/docs
	@$(BIN)/pdoc --output-directory build/docs mainstem
	@echo "the API reference is in build/docs/index.html" >&2

servers: ## install the servers that tests and bench use, where that is possible
	@.ci/servers >&2

clean: ## remove what make made; a project's data in .mainstem/ stays
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------ the environment
# uv installs in a fifth of pip's time; where its wheel cannot be had or fails, pip does the same more slowly.
define install
	@echo "installing mainstem[$(1)] into $(VENV) ..." >&2
	@{ test -x $(BIN)/uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[$(1)]" 1>&2; } \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(1)]" 1>&2
	@touch $@
endef

$(STAMP)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "mainstem needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1 || true): try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 1>&2 || { echo \
	  "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 1>&2 || true
	@touch $@

$(STAMP)-demo: $(STAMP)-venv pyproject.toml
	$(call install,embedded$(,)demo$(,)fast)

$(STAMP)-test: $(STAMP)-venv pyproject.toml
	$(call install,embedded$(,)demo$(,)fast$(,)bench$(,)test)

$(STAMP)-lint: $(STAMP)-venv pyproject.toml
	$(call install,embedded$(,)demo$(,)fast$(,)bench$(,)test$(,)lint)

$(STAMP)-bench: $(STAMP)-venv pyproject.toml
	$(call install,embedded$(,)fast$(,)bench)

$(STAMP)-docs: $(STAMP)-venv pyproject.toml
	$(call install,docs)

# a comma inside the arguments of a call
, := ,
