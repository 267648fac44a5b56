# The two that a newcomer needs: `make demo`, `make test`. Everything lives in .venv and .tools of this folder.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# PostgreSQL comes with the requirements.
SERVERS := setpriv mariadbd mariadb-install-db
# Only downloaded: tests install them on a machine of their own (tests/support/machine.py), which needs root.
ON_A_MACHINE := daemontools.deb postfix.deb postgresql.deb runit.deb systemd.deb

.PHONY: help install demo test check lint docs proof bench lock clean

help:
	@echo "make demo    a tour of mailvane on real mail; ends by itself"
	@echo "make test    all tests, with every server they need"
	@echo "make check   lint, format, types, order of imports, make test"
	@echo "make docs    the pages as a site, into build/site; every link is checked"
	@echo "make proof   what takes longer, in parts: make proof PART=kills"
	@echo "make bench   the benchmarks, into bench/results/"
	@echo "make lock    pins the requirements anew"
	@echo "make clean   removes .venv, .tools and caches"

install: $(INSTALLED)

$(INSTALLED): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mailvane needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	@$(BIN)/mailvane demo

# PYTEST takes more arguments: make test PYTEST="-k h21 -x"
test: install
	@$(BIN)/python scripts/need.py strace sqlite3 unshare nsenter curl ip mysql $(SERVERS) $(ON_A_MACHINE)
	@$(BIN)/python -m pytest -n 3 --dist worksteal --junitxml=build/results.xml $(PYTEST)

lint: install
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --warnings
	@$(BIN)/lint-imports --no-logo

check: lint
	@$(MAKE) --no-print-directory test

docs: install
	@$(BIN)/python scripts/docs_site.py

# PART names a file tests/proof/test_PART.py; without it all parts run, one after the other.
proof: install
	@$(BIN)/python scripts/need.py strace sqlite3 unshare nsenter $(SERVERS)
	@$(BIN)/python scripts/proof.py $(PART)

# ONLY names a file bench/bench_ONLY.py; ROUNDS is at least 5 for a figure that is quoted.
bench: install
	@$(BIN)/python scripts/need.py wrk nginx gcc taskset $(SERVERS)
	@$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

UV := .tools/uv/bin/uv
UV_COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --upgrade
lock:
	@test -x $(UV) || { $(PYTHON) -m venv .tools/uv && .tools/uv/bin/pip install --quiet --disable-pip-version-check uv; }
	@$(UV_COMPILE) --group dev pyproject.toml -o requirements/dev.txt
	@$(UV_COMPILE) --constraint requirements/dev.txt pyproject.toml -o requirements/runtime.txt

clean:
	rm -rf .venv .tools build .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
