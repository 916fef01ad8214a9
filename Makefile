# make demo: the whole pipeline on data it makes itself.   make test: the tests; make quick: those that take no time.
# Each makes .venv itself.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick check bench fuzz clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/amefu demo

test: .venv/installed
	$(BIN)/python -m pytest -n 2

quick: .venv/installed
	$(BIN)/python -m pytest -n 2 -m 'not slow'

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: .venv/installed
	$(BIN)/python examples/bench.py

# make fuzz SECONDS=3600 SEED=7
fuzz: .venv/installed
	FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_SEED=$(or $(SEED),0) $(BIN)/python -m pytest tests/process/test_fuzz.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache amefu-demo
