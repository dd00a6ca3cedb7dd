# The whole platform from one place. `make` alone lists what there is.
#
#   make run ARGS='--set score.top_k=50'     extra arguments of the pipeline
#   make test ARGS='tests/unit -k doctor'    extra arguments of pytest
#   make setup PYTHON=/path/to/python3.11    another Python
#   make run RECSYS_DELTA_JARS=/path/to/jars Delta's jars from a folder or a comma list, not from Maven

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The Python that the environment is made from: asked for its own name, because the first python3.11 on PATH may be a
# launcher that starts nothing, or the environment itself.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null && break; done)
endif
SETUP := $(PYTHON) tooling/setup_env.py

# pip's spark-submit starts the first python3 on PATH, so the environment comes first, in every target.
export PATH       := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)
unexport SPARK_HOME
# Containers have often no locale, and a JVM without one finds no file whose name is not ASCII.
export LC_ALL := C.UTF-8
# One machine needs no address that others reach, and a host name that resolves to none would stop Spark.
export SPARK_LOCAL_IP := 127.0.0.1

# Two Spark sessions of tests side by side, each with about one busy core and 3 GiB.
TEST_WORKERS ?= 2

DATASET := complete_journey
ARGS    ?=

# Read when a recipe runs, not before: the jars may have to be fetched first.
WITH_JARS = RECSYS_DELTA_JARS="$$($(SETUP) --print jars)" && export RECSYS_DELTA_JARS

# Delta must be named at submission: once the job's Python runs, its JVM is up and takes no more jars.
SUBMIT = spark-submit --master 'local[*]' --driver-memory 4g \
	--jars "$$RECSYS_DELTA_JARS" \
	--driver-java-options '-Dlog4j2.configurationFile=$(CURDIR)/conf/log4j2.properties'

.PHONY: help setup doctor run submit test lint bench-score bench-embed bench-gpu bench-rules package lock clean prune

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make the environment ready (about 5 minutes the first time, then a moment)
	@[ -n "$(PYTHON)" ] || { echo 'no Python found; do: install CPython 3.11, or name it: make PYTHON=… setup'; exit 1; }
	@$(SETUP)

doctor: setup ## check every precondition and say what to do about each failure
	@$(WITH_JARS); python -m recsys_spark.doctor

run: doctor ## run the whole pipeline on the Complete Journey data; a second run resumes
	@python -m recsys_spark land --dataset $(DATASET) --to data/landing/$(DATASET)
	@$(WITH_JARS); $(SUBMIT) jobs/pipeline.py --conf-file conf/base.yaml --conf-file conf/local.yaml \
		--conf-file conf/datasets/$(DATASET).yaml $(ARGS)

submit: setup ## run the pipeline on your own data: ARGS='--conf-file conf/base.yaml --conf-file …'
	@$(WITH_JARS); $(SUBMIT) jobs/pipeline.py $(ARGS)

test: setup ## run the tests
	@$(WITH_JARS); pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

lint: setup ## check style, types and the layers of the imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo

bench-score: setup ## measure scoring against the fastest product, peers and Spark (about 45 minutes)
	@$(WITH_JARS); python -m benchmarks.score $(ARGS)

bench-embed: setup ## time the embedding of product texts against other ways (about 12 minutes)
	@$(WITH_JARS); env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benchmarks.embed $(ARGS)

bench-gpu: setup ## measure search, embedding and training on a GPU where there is one (about 2 minutes)
	@python -m benchmarks.gpu $(ARGS)

bench-rules: setup ## try every kind of rule on the warehouse of `make run` (about 8 minutes)
	@$(WITH_JARS); python -m benchmarks.rules $(ARGS)

# The same files give the same bytes: names sorted by zipfile, one date, one mode.
package: setup ## build dist/recsys_spark.zip for spark-submit --py-files
	@rm -rf build/package && mkdir -p build/package dist
	@find recsys_spark jobs -type f -not -path '*/__pycache__/*' -exec cp --parents -t build/package {} +
	@chmod -R u=rwX,go=rX build/package && find build/package -exec touch -d '1980-01-02 UTC' {} +
	@cd build/package && TZ=UTC python -m zipfile -c ../../dist/recsys_spark.zip recsys_spark jobs
	@ls -l dist/recsys_spark.zip

# Versions already locked stay, unless ARGS=--upgrade or ARGS='--upgrade-package NAME' says otherwise.
lock: setup ## resolve requirements.in into requirements.lock again
	uv pip compile --quiet $(ARGS) --python-version 3.11 --custom-compile-command 'make lock' \
		requirements.in --output-file requirements.lock

clean: ## remove the local warehouse and everything built here (not the cached environment)
	rm -rf warehouse spark-warehouse metastore_db derby.log mlruns mlruns.db mlflow.db build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

prune: ## remove cached environments of older locks (9 GB each) and of the benches' peers
	@$(SETUP) --prune
