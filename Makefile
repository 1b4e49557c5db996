# make serve   install on first use, then serve on :8000
# make test    install the development tools on first use, then run all tests, several files at a time; clusters last
# make quick   the tests that find most mistakes, in under two minutes
# make check   lint, formatting and types
# make coverage  run the tests of the service, its processes included, and list what they do not reach
# make bench   measure engine, service, decoding, start-up and scaling, beside what users would pick instead
# make fuzz    decode 100,000 damaged pictures
# make chaos   put a service under fire for ten minutes
# make mutants change the batcher in hundreds of small ways, and list those that its tests do not notice
# make openapi rewrite docs/openapi.json after a change of the API
# make docs    build the documents into site/, without the internet
# make wheel   build what pipx or an empty environment installs, into dist/
# make dashboard       rewrite the Grafana dashboard after a change in deploy/grafana
# make prometheusrule  rewrite the rules for the Prometheus operator after a change in deploy/prometheus/rules

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 4
# Files in the order of their names: else those with few tests, which are the long ones, come last and one by one.
SPREAD := --dist loadfile --no-loadscope-reorder
QUICK := tests/test_architecture.py tests/docs/test_architecture_page.py \
	$(addprefix tests/model/test_,imports.py images.py contract.py scorer.py crop_rounds.py map_crops.py checkpoint.py) \
	$(addprefix tests/app/test_,batcher.py batcher_races.py fair_queue.py worker_threads.py workers.py pictures.py \
		batch.py cache.py keys.py incidents.py settings.py generations.py upload_traps.py) \
	$(addprefix tests/cli/test_,commands.py outputs.py selection.py sources.py scoring.py) \
	$(addprefix tests/training/test_,losses.py recipe.py splits.py datasets.py cross_validation.py) \
	tests/client/test_answers.py tests/client/test_retries.py

# Modules are compiled once, not again in each of the many processes of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test quick check coverage bench fuzz chaos mutants openapi docs wheel dashboard prometheusrule
serve: $(VENV)/serve.stamp
	$(BIN)/smart-iqa serve

test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) $(SPREAD) --ignore tests/e2e/ray
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(SPREAD) tests/e2e/ray

quick: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) $(SPREAD) $(QUICK)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/dev.stamp
	$(BIN)/coverage run -m pytest -q tests/app tests/e2e tests/model/test_images.py tests/model/test_fuzz.py
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: $(VENV)/bench.stamp
	for name in engine serving decode startup scaling; do $(BIN)/python -m benchmarks.$$name || exit 1; done

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.fuzz

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.chaos

mutants: $(VENV)/mutants.stamp
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

openapi: $(VENV)/dev.stamp
	$(BIN)/python -m tests.app.openapi > docs/openapi.json

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/dev.stamp
	$(BIN)/python -m build

dashboard: $(VENV)/dev.stamp
	$(BIN)/python -m deploy.grafana.dashboard > deploy/grafana/dashboards/smart-iqa.json

prometheusrule: $(VENV)/dev.stamp
	$(BIN)/python -m deploy.prometheus.operator > deploy/kubernetes/monitoring/prometheusrule.yaml

$(VENV)/serve.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[pick]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/serve.stamp
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/mutants.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[mutants]'
	touch $@
