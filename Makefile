# Every target sets up what it needs first. "make help" lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
TESTS ?= tests

.PHONY: help setup system demo test test-fast check docs dist golden oracle bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

$(VENV)/.has-%: $(STAMP)
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

setup: $(STAMP) ## make the virtual environment in .venv

# What comes from Debian: runtimes, and the peers that tests and benchmarks compare with.
system: ## install what comes from Debian (as root)
	sh tools/system-packages

demo: $(STAMP) ## build an example without a registry, show and run the image
	sh tools/system-packages demo
	sh examples/quickstart/run $(BIN)/buildfront

check: $(STAMP) ## run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) system ## run every test, as root; TESTS=PATH for some of them
	$(BIN)/python -m pytest -p strict -n 3 --dist worksteal --cov --cov-report=term $(TESTS)

# Whatever is wrong, a link that leads nowhere too, is an error.
docs: $(VENV)/.has-docs ## render the documentation and the API reference into site/
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -d .cache/doctrees docs site
	@echo "site/index.html"

dist: $(VENV)/.has-dist ## build the archive of the sources and the wheel into dist/, and try them
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	sh tools/try-wheel $(BIN)/python dist/*.whl

# What needs neither root nor anything of Debian's but Python: under a minute.
test-fast: $(STAMP) ## run the tests that need neither root nor Debian's programs
	$(BIN)/python -m pytest -q -r fE -n 2 --dist worksteal --fast

golden: $(STAMP) ## write the golden files, the JSON schemas and the rules in docs/check.md anew
	$(BIN)/python tools/make_schemas.py
	$(BIN)/python tools/make_rules_page.py
	PYTHONPATH=tests $(BIN)/python tests/golden_cases.py
	BUILDFRONT_GOLDEN_KEYS=write $(BIN)/python -m pytest -q tests/build/test_golden_keys.py
	BUILDFRONT_GOLDEN_ERRORS=write $(BIN)/python -m pytest -q -n 2 tests/build/test_broken_dockerfiles.py

# Against buildah, BuildKit and docker's old builder: OCI specs, the records of testdata/mounts and testdata/volumes,
# and all of the mounts under every isolation.
# After a change of a case: .venv/bin/python tools/record_mounts.py --write CASE, or tools/record_volumes.py
oracle: $(STAMP) ## compare with buildah, BuildKit and docker's old builder
	sh tools/system-packages oracle
	ORACLE_TABLE=1 $(BIN)/python -m pytest -q -s tests/build/test_oracle.py
	$(BIN)/python tools/record_mounts.py
	$(BIN)/python tools/record_volumes.py
	ORACLE_TABLE=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/build/test_mount_peers.py

bench: $(STAMP) ## measure against the peers
	$(BIN)/python bench/bench.py

clean: ## remove everything that these targets made
	rm -rf $(VENV) .cache dist site
