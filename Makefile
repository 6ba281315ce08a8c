# Everything happens in a virtual environment in .venv, which is created when it is not there. A second call installs
# nothing again, unless pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGUMENTS ?=

# In which the whole suite passes, besides the usual way.
MODES := FUNCGRAD_VECTOR_BITS=256 FUNCGRAD_VECTOR_BITS=128 FUNCGRAD_VECTOR_BITS=0 FUNCGRAD_THREADS=1 \
	FUNCGRAD_COMPILER=reference

.PHONY: help demo test test-modes lint docs bench clean

help:
	@echo "make demo       train a network on handwritten digits"
	@echo "make test       run the tests"
	@echo "make test-modes run them with narrow vectors, with none, on one thread, and without native code"
	@echo "make lint       check form, types and layers"
	@echo "make docs       run the code of README.md and docs/"
	@echo "make bench      compare with other libraries (ARGUMENTS=\"eager_add --rounds 5\" chooses)"
	@echo "make clean      remove the virtual environment and caches"
	@echo "PYTHON=python3.12 chooses the interpreter that the virtual environment is created with."

demo: $(VENV)/installed-examples
	$(BIN)/python examples/digits.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto $(ARGUMENTS)

test-modes: $(VENV)/installed-test
	@for mode in $(MODES); do \
		echo "with $$mode"; \
		env $$mode $(BIN)/python -m pytest -q -n auto $(ARGUMENTS) || exit 1; \
	done

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(VENV)/installed-docs
	$(BIN)/python -m pytest --noconftest tests/test_docs.py $(ARGUMENTS)

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks $(ARGUMENTS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/installed-%: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

# pip and not python, because python is there too when the creation of an environment stopped half-way.
$(BIN)/pip:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" 2>/dev/null || \
		{ echo "funcgrad needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is none of them: name one with PYTHON=python3.12." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
