# Each target sets up what it needs in .venv; a second call is quick.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PACKAGES = flowli_core flowli_starlette flowli_fastapi flowli_litestar
BIN = .venv/bin

.PHONY: demo example-fastapi example-starlette example-litestar test coverage test-faults soak mutants check format bench clean

demo: .venv/ready
	$(BIN)/python examples/demo.py

# The same service in each framework, with its files in .example, until Ctrl-C.
example-fastapi example-starlette example-litestar: example-%: .venv/ready
	mkdir -p .example
	RECORDS_FOLDER=.example $(BIN)/python -m uvicorn records_service.on_$*.main:app --app-dir examples --port $(or $(PORT),8000)

# With MEASURED=1 the branches that are taken are written down, for `make coverage`.
test: .venv/ready
	$(BIN)/$(if $(MEASURED),coverage run,python) -m pytest $(PYTEST_ARGS)

# Which branches the measured tests took; fails where it is less than 95 %.
coverage: .venv/ready
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=95

# The long ones of tests/faults: storms of kill -9, connections that flap, servers that die. pytest fails where none is found.
test-faults: .venv/ready
	$(BIN)/python -m pytest -m faults tests $(PYTEST_ARGS)

# Load, kills, restarts and cuts for FLOWLI_SOAK_SECONDS (600), with flat memory and a clean audit at the end.
soak: .venv/ready
	$(BIN)/python -m pytest -m soak -s tests $(PYTEST_ARGS)

# Break the shipped Lua in known ways; fails where the tests do not notice one of them.
mutants: .venv/ready
	$(BIN)/python -m tests.mutants $(MUTANTS)

# What must hold of a change before its tests are run: style, layers, types.
check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --verbose
	$(BIN)/mypy $(PACKAGES) examples tests benchmarks
	$(BIN)/pyright

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready
	$(BIN)/python benchmarks/drain.py
	$(BIN)/python benchmarks/sqlite_wakeup.py
	$(BIN)/python benchmarks/redis_driver.py

clean:
	rm -rf .venv .example dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Flowli needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
