# What a newcomer needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.bcd-setup
HOME_DIR ?= .bcd

.PHONY: setup web demo up test test-unit lint format openapi faults test-postgres test-cluster test-web bench lock clean

setup: $(STAMP)

# The environment is exactly the hashed lock; bcd itself is installed editable on top.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("bcd needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@echo "Installing the locked environment into $(VENV) (first time: several GB, a few minutes)"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes --link-mode=copy requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The web UI, from service/web/ to service/static/; again only when something of it has changed.
WEB := $(shell find service/web -path service/web/node_modules -prune -o -type f -not -name schema.d.ts -print)

web: service/static/index.html

service/static/index.html: $(WEB) docs/openapi.json | $(STAMP)
	@echo "Building the web UI"
	@$(BIN)/python service/hatch_build.py

demo: setup
	@$(BIN)/bcd demo --home $(HOME_DIR)

up: setup web
	@$(BIN)/bcd up --home $(HOME_DIR)

test: lint
	# Two processes of one thread each: on two cores quicker than the other way round. The end-to-end tests come alone.
	BCD_TEST_DATABASES=sqlite OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit -n 2 --dist loadfile
	$(BIN)/python -m pytest tests/e2e/test_service.py tests/e2e/test_restart.py tests/deployment/test_files.py

# The same tests of everything that touches the database, on PostgreSQL (the machine's, else the package's).
test-postgres: setup
	BCD_TEST_DATABASES=postgresql OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit/service tests/unit/dispatch \
		tests/unit/mirror tests/unit/webhooks -n 2 --dist loadfile

# What takes a cluster: two dispatchers and two apis, several Ray nodes and processes, a sweep, and a few faults of each kind.
test-cluster: setup
	$(BIN)/python -m pytest tests/deployment/test_fleet.py tests/e2e/test_open_ray.py tests/e2e/test_many_workers.py \
		tests/e2e/test_sweeps.py
	$(BIN)/python -m tests.faults --n 1 --only service-kills --only worker-kills --only stops --only equal-submissions --only sweep-kills

# The web UI: its types, its rules and its small parts, then journeys in the system's Chromium.
test-web: web
	$(BIN)/python service/hatch_build.py run check
	$(BIN)/python -m pytest tests/ui

test-unit: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# After an intended change of the API: the contract that a test holds it to.
openapi: setup
	$(BIN)/python -m tests.helpers.openapi

# Break the real installation N times in each way (default: in full, hours) and check every promise.
faults: setup
	$(BIN)/python -m tests.faults $(if $(N),--n $(N)) $(if $(ONLY),--only $(ONLY))

bench: setup
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.latency

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" -q

# One lock for work and tests, and of the same versions what each of the two images holds.
lock:
	$(COMPILE) pyproject.toml --extra service --extra export --extra timm --extra s3 --extra otel --group dev -o requirements.lock
	$(COMPILE) --group api --constraint requirements.lock -o docker/api.lock
	$(COMPILE) pyproject.toml --extra service --extra timm --extra s3 --extra otel --constraint requirements.lock -o docker/worker.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
