# Every habit of this house by name. Each target sets up what it needs first; only python3 (>= 3.11), git and make are asked for.
.PHONY: generated image alerts-fired doctor-49 site helm alerts install install-dev lock demo up test coverage properties check chaos soak upgrade planted isolation cluster reshard scaling cluster-e2e bench bench-against bench-lanes doors clean lint-code lint-format lint-types lint-imports lint-dependencies
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock pyproject.toml
	@deploy/install.sh $(PYTHON) $(VENV) requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml
	@deploy/install.sh $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.installed

lock:
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-strip-extras --universal --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-strip-extras --universal --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

# what Procfile, docker-compose.yml, the chart, the site, docs/settings.md and deploy/egress.json say of each vendor
generated: install
	@$(BIN)/python -m workers.cli.vendor_files

demo: install
	@$(BIN)/pushfleet demo

up: install
	@$(BIN)/pushfleet up

# Most of the time is waiting: four files at a time, each process with servers of its own (tests/conftest.py says in which order)
test: install-dev
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Folders without I/O: every line and every branch of them is run by a unit test
PURE := workers/routing workers/vendors
comma := ,
space := $(subst x, ,x)

# Branch coverage of the unit tests: the pure folders whole, all of it at least pyproject's fail_under
coverage: install-dev
	@mkdir -p var/coverage
	@$(BIN)/python -m pytest -n 2 tests/unit --cov --cov-branch --cov-report= --cov-fail-under=0
	@$(BIN)/coverage report --show-missing --skip-covered --fail-under=100 --include="$(subst $(space),$(comma),$(PURE:%=%/*))"
	@$(BIN)/coverage report --format=total

# The same properties with 25 times as many examples, the model of admission with 2,500 walks
properties: install-dev
	@PUSHFLEET_TEST_LONG=1 $(BIN)/python -m pytest --timeout 1800 tests/unit tests/integration/admission/test_model.py

# KILLS=5 MESSAGES=20000 SEED=n: each process is killed so many times while so many messages travel; report var/reports/chaos.json
chaos: install-dev
	@$(BIN)/python -m tests.chaos.campaign chaos

# MINUTES=30 SEED=n: the same load with random faults; report var/reports/soak.json
soak: install-dev
	@$(BIN)/python -m tests.chaos.campaign soak

# BASE=DIR of a checkout of the version before with its own .venv: its processes are replaced one by one under load; upgrade.json
upgrade: install-dev
	@$(BIN)/python -m tests.chaos.upgrade $(BASE) $(ARGS)

# each fault that somebody could write tomorrow, planted alone in a copy of this tree: the suite must notice; var/reports/planted.json
planted: install-dev
	@$(BIN)/python -m tests.planted $(ARGS)

# One slow thing never stops another: every scenario in its long form; report var/reports/isolation.json. ARGS="--size 0.1"
isolation: install-dev
	@$(BIN)/python -m tests.isolation $(ARGS)

# A real cluster of three primaries and their replicas: the demo, then 20,000 messages while primaries die and slots move; report
# var/reports/cluster.json. COMMAND="… " runs something beside such a cluster instead, with its PUSHFLEET_REDIS_URL
cluster: install-dev
	@$(BIN)/python -m $(if $(COMMAND),tests.cluster $(COMMAND),tests.chaos.cluster_campaign)

# 50,000 pushes wait in 20 lanes while the fleet goes from 1 to 4 to 2 shards and the command is killed in each phase; report
# var/reports/reshard.json. PUSHES=5000 LANES=5
reshard: install-dev
	@$(BIN)/python -m tests.chaos.reshard

# What a push costs with 1 to 16 shards and 1 to 4 replicas, as ratios of one run; report var/reports/scaling.json. ARGS="--repeats 1"
scaling: install-dev
	@$(BIN)/python -m tests.benchmarks.scaling $(ARGS)

# The tests of the whole way on such a cluster. ARGS="-k c2c"
cluster-e2e: install-dev
	@PUSHFLEET_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/e2e $(ARGS)

bench: install-dev
	@$(BIN)/python -m tests.benchmarks.bench

# BASE=DIR of another checkout with its own .venv: both builds turn by turn, medians and ratios. ARGS="--tenants 1000"
bench-against: install-dev
	@$(BIN)/python -m tests.benchmarks.against $(BASE) $(ARGS)

bench-lanes: install-dev
	@$(BIN)/python -m tests.benchmarks.bench_lanes

# real IM servers as cores: Synapse from PyPI in an environment of its own, ejabberd and Prosody of this Debian; var/reports/doors.json
doors: install-dev
	@$(BIN)/python -m tests.doors

# each linter beside the others: mypy alone takes half of the time
LINTERS := lint-code lint-format lint-types lint-imports lint-dependencies
check: install-dev
	@$(MAKE) --no-print-directory -j --output-sync=target $(LINTERS)

lint-code:
	$(BIN)/ruff check .
lint-format:
	$(BIN)/ruff format --check .
lint-types:
	$(BIN)/mypy
lint-imports:
	$(BIN)/lint-imports
lint-dependencies:
	$(BIN)/deptry .

# promtool comes with Debian's package `prometheus`
alerts:
	promtool check rules deploy/alerts.yml
	cd deploy && promtool test rules alerts_test.yml

# every alert by a real fault, on a real fleet with Debian's Prometheus; report var/reports/alerts.json; ARGS="PushfleetProcessDown …"
alerts-fired: install-dev
	@$(BIN)/python -m tests.alerting $(ARGS)

# doctor on forty-nine seeded faults on real servers, in one run; report var/reports/doctor.json; ARGS="PostgreSQL"
doctor-49: install-dev
	@$(BIN)/python -m tests.doctored $(ARGS)

# the container image's steps run by hand, as root on a Debian host: what it weighs, and that its Python runs in it; var/image
image:
	@$(PYTHON) -m tests.image

# the pages of docs/ as a site in var/site
site:
	@test -d var/site-env || ($(PYTHON) -m venv var/site-env && var/site-env/bin/pip install -q 'mkdocs-material>=9.6')
	@var/site-env/bin/mkdocs build --strict --quiet
	@echo var/site/index.html

# Helm's own engine (helm-python-sdk) and Kubernetes' schemas, in an environment of their own
helm:
	@test -d var/helm || ($(PYTHON) -m venv var/helm && var/helm/bin/pip install -q helm-python-sdk==0.2.2 kubernetes-validate pyyaml)
	@var/helm/bin/python tests/helm.py

clean:
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
