# `make demo` and `make test` need Python 3.11 or newer, git and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:

# Nothing here touches the user's own AIRFLOW_HOME.
export AIRFLOW_HOME := $(CURDIR)/build/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES := False

BIN := .venv/bin
DEMO_STAMP := .venv/.demo-stamp
DEV_STAMP := .venv/.dev-stamp
BENCH_STAMP := .venv-bench/.stamp
INSTALL_INPUTS := pyproject.toml scripts/bootstrap.py
PYTHONS = $(PYTHON) $(PREFERRED) python3 python3.13 python3.12 python3.11 python3.14
# $(call python,3.13): where that Python may be, for steps that are to run on it if it is there.
python = python$(1) $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python3)
PYTEST = $(BIN)/python -m pytest -q --cov $(PYTEST_ARGS)
# Half of a test's time is waiting: two workers for each core.
WORKERS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# Each of them starts a real Airflow, so they run one after the other.
SYSTEM_TESTS := $(wildcard tests/system/test_*.py tests/system/*/test_*.py)

# Of Airflow's lines before the one that all tests run on: the unit tests of what touches Airflow, and two DAGs.
OLDER := 2.11 3.0 3.1 3.2
WITHOUT_AIRFLOW := --ignore tests/unit/api --ignore tests/unit/download

# When the versions were released whose constraints files are rebuilt in constraints/official.
OFFICIAL := 2.11.2=2026-03-14T19:00:00Z 3.1.8=2026-03-11T20:00:00Z 3.2.2=2026-05-29T06:00:00Z \
	3.3.0=2026-07-06T14:30:00Z 3.3.2=2026-09-17T09:00:00Z

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
	--custom-compile-command "make constraints" --extra emulator pyproject.toml

# $(call with_python,from,to,arguments): run scripts/bootstrap.py with the first Python from 3.from to 3.to.
define with_python
@for python in $(PYTHONS); do \
	if "$$python" -c 'import sys; sys.exit(not ((3, $(1)) <= sys.version_info[:2] <= (3, $(2))))' 2>/dev/null; then \
		exec "$$python" scripts/bootstrap.py $(3); \
	fi; \
done; \
echo "error: no Python 3.$(1) to 3.$(2) among $(PYTHONS). Install one, or: make PYTHON=/path/to/python" >&2; \
exit 1
endef

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO_STAMP) ## From an image to a video on this machine: a real DAG run, no API key
	@$(BIN)/python scripts/demo.py

.PHONY: ui
ui: $(DEMO_STAMP) ## Airflow with the example DAGs in the browser, against the emulator
	@$(BIN)/python scripts/ui.py

.PHONY: test test-airflow test-others
test: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg ## All tests, on Airflow 3.3, with coverage
	@mkdir -p build && rm -f .coverage.airflow .coverage.others
	@printf '%s\n' $(if $(SYSTEM_TESTS),'airflow >build/test-airflow.log 2>&1') others | xargs -P 2 -I{} sh -c '$(MAKE) test-{}'; \
		status=$$?; $(if $(SYSTEM_TESTS),cat build/test-airflow.log;) exit $$status
	@test ! -e .coverage.others || { $(BIN)/coverage combine -q .coverage.others $(if $(SYSTEM_TESTS),.coverage.airflow); \
		$(BIN)/coverage report; }

# A real Airflow mostly waits: all other tests run beside it, and give way to it.
test-airflow: $(DEV_STAMP)
	COVERAGE_FILE=.coverage.airflow $(PYTEST) --cov-report= tests/system

test-others: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg
	COVERAGE_FILE=.coverage.others nice -n 15 $(PYTEST) --cov-report= -n $(WORKERS) --dist loadfile tests/unit tests/integration

.PHONY: faults
faults: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg ## Kill and cut off a real Airflow in every way; KIRIN_FAULT_REPEATS=3
	KIRIN_FAULT_REPEATS=$(or $(KIRIN_FAULT_REPEATS),3) $(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/system

.PHONY: faults-celery
faults-celery: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg ## The same faults on two Celery workers and Redis
	KIRIN_FAULT_CELERY=all KIRIN_FAULT_REPEATS=$(or $(KIRIN_FAULT_REPEATS),1) $(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/system/test_celery.py

.PHONY: bench-callbacks
bench-callbacks: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg ## how soon a task ends after its generation, with callbacks and without, in a real Airflow (ten minutes)
	$(BIN)/python -m benchmarks.callbacks $(BENCH_ARGS)

.PHONY: soak
soak: $(DEV_STAMP) $(AIRFLOW_HOME)/airflow.cfg ## 500 short waits in a busy Airflow, without a lost try (half an hour or more); SOAK_ARGS="--load 8"
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

.PHONY: $(OLDER:%=test-%)
test-2.11: ## Airflow's side on Airflow 2.11 and the lowest allowed versions: unit tests, and example DAGs
test-3.0: ## The same on Airflow 3.0 and the newest versions of all else
test-3.1: ## The same on Airflow 3.1.8 and its own constraints, with Python 3.13 if it is there
test-3.2: ## The same on Airflow 3.2.2 and its own constraints

$(OLDER:%=test-%): test-%: .venv-%/.stamp
	@mkdir -p build/airflow-$*
	AIRFLOW_HOME=$(CURDIR)/build/airflow-$* .venv-$*/bin/python -m pytest -q -n auto $(PYTEST_ARGS) tests/unit $(WITHOUT_AIRFLOW)
	.venv-$*/bin/python scripts/demo.py --home build/demo-$* --dag kirin_image_to_video $(TASKFLOW)
# Their decorated operators differ from those of 3.3.
test-2.11 test-3.0: private TASKFLOW = --dag kirin_taskflow

.PHONY: dist
dist: $(DEV_STAMP) ## Build the wheel and the sdist into dist/
	@rm -rf dist
	$(BIN)/uv build --quiet

.PHONY: test-package
test-package: dist ## What is uploaded: metadata, content, beside Airflow's constraints files, the demo from the wheel
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents dist/*.whl
	@rm -rf .venv-wheel build/wheel && mkdir -p build/wheel/scripts
	$(call with_python,11,13,.venv-wheel --constraints constraints/official/airflow-3.3.2.txt --wheel dist/*.whl)
	$(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/package
	@cp scripts/demo.py scripts/local_airflow.py build/wheel/scripts
	cd build/wheel && $(CURDIR)/.venv-wheel/bin/python scripts/demo.py --home demo
test-package: private PREFERRED = $(call python,3.13)

.PHONY: audit
audit: $(DEV_STAMP) ## Known vulnerabilities of what the package brings: at its lowest versions, and at the newest
	@$(BIN)/python scripts/audit.py constraints/airflow-2.11.txt constraints/airflow-3.3.txt

.PHONY: sbom
sbom: $(DEV_STAMP) ## What the wheel brings into an empty environment (after test-package), as CycloneDX, into build/sbom.json
	$(BIN)/uv tool run --quiet --from 'cyclonedx-bom>=7,<8' cyclonedx-py environment .venv-wheel --output-file build/sbom.json

.PHONY: release-check release-notes
release-check: release-notes ## Everything up to the upload: changelog, tag, all of CI, audit, SBOM
	bash .ci/run
	$(MAKE) audit sbom
	@$(BIN)/python scripts/release_notes.py --check-urls >/dev/null
	@echo "Ready. Next: git tag v$$($(BIN)/python scripts/release_notes.py --version), and push the tag."

release-notes: $(DEV_STAMP) ## The changelog's section of this version; an error if it has no date. TAG=v1.2.3 must fit
	@$(BIN)/python scripts/release_notes.py $(if $(TAG),--tag $(TAG))

.PHONY: bench
bench: $(BENCH_STAMP) ## Measure us beside our peers; updates the figures and plots of docs/ (10 minutes or more)
	AIRFLOW_HOME=$(CURDIR)/build/airflow-bench PYTHONDONTWRITEBYTECODE= .venv-bench/bin/python -m benchmarks $(BENCH_ARGS)

.PHONY: bench-night
bench-night: $(BENCH_STAMP) ## A night's work in a real Airflow, one way after another (about an hour); updates docs/
	AIRFLOW_HOME=$(CURDIR)/build/airflow-bench .venv-bench/bin/python -m benchmarks.night $(BENCH_ARGS)

.PHONY: bench-table
bench-table: $(BENCH_STAMP) ## How a batch grows: 100 to 10,000 rows, and 500 resumes, in a real Airflow (half an hour); updates docs/
	AIRFLOW_HOME=$(CURDIR)/build/airflow-bench .venv-bench/bin/python -m benchmarks.night.table $(BENCH_ARGS)

.PHONY: bench-waits
bench-waits: $(BENCH_STAMP) ## Thousands of waits on two triggerers (about half an hour); updates docs/
	AIRFLOW_HOME=$(CURDIR)/build/airflow-bench .venv-bench/bin/python -m benchmarks.night.triggerers $(BENCH_ARGS)

.PHONY: bench-capacity
bench-capacity: $(BENCH_STAMP) ## A table on an account that runs a few generations at once (about an hour); prints a table
	AIRFLOW_HOME=$(CURDIR)/build/airflow-bench .venv-bench/bin/python -m benchmarks.night.capacity $(BENCH_ARGS)

.PHONY: lint
lint: $(DEV_STAMP) ## Ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: format
format: $(DEV_STAMP) ## Let ruff fix and format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: $(DEV_STAMP) ## mypy
	$(BIN)/mypy

.PHONY: docs
docs: $(DEV_STAMP) ## Build docs/ into build/docs; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -n -j auto -d build/doctrees docs build/docs
	@echo "Built build/docs/index.html"

.PHONY: constraints
constraints: $(DEV_STAMP) ## Update the pins in constraints/
	$(COMPILE) --group dev --group bench constraints/airflow-3.3.in --output-file constraints/airflow-3.3.txt
	$(COMPILE) --group test --resolution lowest-direct constraints/airflow-2.11.in --output-file constraints/airflow-2.11.txt
	$(foreach line,3.0 3.1 3.2,$(COMPILE) --group test constraints/airflow-$(line).in --output-file constraints/airflow-$(line).txt &&) true

.PHONY: official
official: $(DEV_STAMP) ## Rebuild the constraints files of Airflow in constraints/official
	$(foreach one,$(OFFICIAL),$(call rebuild,$(word 1,$(subst =, ,$(one))),$(word 2,$(subst =, ,$(one)))) &&) true

# $(call rebuild,version,date): what the index had when that Airflow was released.
rebuild = echo apache-airflow==$(1) | $(BIN)/uv pip compile --quiet --python-version 3.11 --no-annotate --no-header \
	--upgrade --exclude-newer $(2) constraints/official/packages.in - --output-file constraints/official/airflow-$(1).txt

.PHONY: images
images: $(DEMO_STAMP) ## Redraw the pictures of the example DAGs
	@$(BIN)/python scripts/draw_images.py

.PHONY: screenshots
screenshots: $(DEV_STAMP) ## Redraw the pictures of Airflow's UI in docs/images (needs Chromium)
	@$(BIN)/python scripts/screenshots.py

.PHONY: models
models: $(DEV_STAMP) ## Regenerate the payload types from the models' schema files
	@$(BIN)/python scripts/payload_types.py

.PHONY: reference
reference: $(DEV_STAMP) ## Rewrite the parts of docs/reference that come from the code
	@$(BIN)/python scripts/reference_pages.py

.PHONY: check-schemas
check-schemas: $(DEV_STAMP) ## Compare the models' schema files with what the real gateway says about its models
	@$(BIN)/python scripts/check_schemas.py $(CHECK_ARGS)

.PHONY: clean
clean: ## Remove the virtualenvs and everything that was built
	rm -rf .venv $(OLDER:%=.venv-%) .venv-wheel .venv-bench build dist .coverage .coverage.* coverage.xml htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(DEMO_STAMP): constraints/airflow-3.3.txt $(INSTALL_INPUTS)
	$(call with_python,11,14,.venv --constraints $<)
	@touch $@

$(DEV_STAMP): constraints/airflow-3.3.txt $(INSTALL_INPUTS)
	$(call with_python,11,14,.venv --constraints $< --group dev)
	@touch $(DEMO_STAMP) $@

$(OLDER:%=.venv-%/.stamp): .venv-%/.stamp: constraints/airflow-%.txt $(INSTALL_INPUTS)
	$(call with_python,11,$(NEWEST_PYTHON),.venv-$* --constraints $< --group test)
	@touch $@
.venv-2.11/.stamp .venv-3.0/.stamp: private NEWEST_PYTHON = 12
.venv-3.1/.stamp .venv-3.2/.stamp: private NEWEST_PYTHON = 13
.venv-3.0/.stamp: private PREFERRED = $(call python,3.12)
.venv-3.1/.stamp: private PREFERRED = $(call python,3.13)

$(BENCH_STAMP): constraints/airflow-3.3.txt $(INSTALL_INPUTS)
	$(call with_python,11,14,.venv-bench --constraints $< --group bench)
	@touch $@

# Airflow writes this file when it is first imported; two test workers would write it at the same time.
$(AIRFLOW_HOME)/airflow.cfg: $(DEV_STAMP)
	@$(BIN)/python -W ignore -c 'import airflow.configuration'
	@touch $@
