# make demo, make test, make check: each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
TESTS ?= tests

.PHONY: setup system demo test test-fast check golden oracle bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

setup: $(STAMP)

# What comes from Debian: runtimes, and the peers that tests and benchmarks compare with.
system:
	sh tools/system-packages

demo: $(STAMP)
	sh tools/system-packages demo
	sh examples/quickstart/run $(BIN)/buildfront

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) system
	$(BIN)/python -m pytest -p strict -n 3 --dist worksteal $(TESTS)

# What needs neither root nor anything of Debian's but Python: under a minute.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -q -r fE -n 2 --dist worksteal --fast

golden: $(STAMP)
	$(BIN)/python tools/make_schemas.py
	PYTHONPATH=tests $(BIN)/python tests/golden_cases.py

# Against buildah, BuildKit and docker's old builder: OCI specs, the records of testdata/mounts and testdata/volumes,
# and all of the mounts under every isolation.
# After a change of a case: .venv/bin/python tools/record_mounts.py --write CASE, or tools/record_volumes.py
oracle: $(STAMP)
	sh tools/system-packages oracle
	ORACLE_TABLE=1 $(BIN)/python -m pytest -q -s tests/build/test_oracle.py
	$(BIN)/python tools/record_mounts.py
	$(BIN)/python tools/record_volumes.py
	ORACLE_TABLE=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/build/test_mount_peers.py

bench: $(STAMP)
	$(BIN)/python bench/bench.py

clean:
	rm -rf $(VENV) .cache
