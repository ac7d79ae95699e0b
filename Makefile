# postfix-trouble: `make help` lists what can be made.

PREFIX = /usr/local
DESTDIR =
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python3 -m pip -qq --disable-pip-version-check
PYTEST = $(BIN)/python3 -m pytest -q
# By files: what the tests of one share, deliveries by a Postfix, is made once.
MANY = -n 3 --dist loadfile --no-loadscope-reorder
# Options for pytest, say PYTEST_ARGS="-k launcher".
PYTEST_ARGS =

# pipe(8) runs the program as an account that can't look into closed directories, so
# the system's interpreter is better than one in somebody's home.
PYTHON := $(shell for p in /usr/bin/python3 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)
PACKAGE := setup.cfg setup.py pyproject.toml bin/postfix-trouble master.cf.example \
	$(wildcard README.md LICENSE man/* launcher/* share/completion/*) $(shell find postfix_trouble -name '*.py')

# What `make install` makes, and where.
LIBRARY = $(PREFIX)/lib/postfix-trouble
SHARE = $(PREFIX)/share
DOC = $(SHARE)/doc/postfix-trouble
MAN = $(SHARE)/man
BASH_COMPLETION = $(SHARE)/bash-completion/completions
ZSH_COMPLETION = $(SHARE)/zsh/site-functions
FISH_COMPLETION = $(SHARE)/fish/vendor_completions.d
PAPERS = README.md CHANGES.md LICENSE SECURITY.md
EXAMPLES = master.cf.example $(wildcard contrib/*)
# Readable by all, whatever the umask: no one but root can tell otherwise, and pipe(8)
# runs the program as nobody or the like.
FOLDER = install -d -m 755
FILE = install -m 644

.PHONY: help tools venv dev demo test check cover test-long test-all lint type bandit \
	audit man mutants fuzz soak soak-lmtp soak-memory reliability bench bench-delivery \
	bench-throughput bench-dead install uninstall deb clean

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

##@ To try it

tools:
	@missing=; \
	if [ -z "$(PYTHON)" ]; then missing="python3 (3.11 or newer)"; \
	elif ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then missing=python3-venv; \
	fi; \
	if [ -n "$$missing" ]; then \
		echo "missing: $$missing; on Debian: apt-get install python3 python3-venv" >&2; \
		exit 1; \
	fi

venv: $(VENV)/.installed ## make the environment .venv with the program in it

# A normal installation: what runs is what a user gets, .pyc files included. With
# CC=false the launcher is the shell script, as where there is no compiler.
$(VENV)/.installed: $(PACKAGE) | tools
	@test -x $(BIN)/python3 || echo "making $(VENV) with $(PYTHON)"
	@test -x $(BIN)/python3 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python3 -c 'import setuptools' 2>/dev/null || $(PIP) install setuptools
	@$(BIN)/python3 -c 'import wheel' 2>/dev/null || $(PIP) install wheel
	@rm -rf build
	@$(PIP) install --no-build-isolation '.[test]'
	@rm -rf build *.egg-info
	@touch $@
	@$(PYTHON) .ci/readable $(BIN)/python3 || true

demo: venv ## deliver a message to servers that take it and that refuse it
	@$(BIN)/python3 tools/demo.py $(BIN)/postfix-trouble

test: venv ## tests, with a real Postfix if there is one; about two minutes
	@$(PYTEST) $(MANY) -m 'not (more or long or marathon)' $(PYTEST_ARGS)

##@ Before a change goes in
# Without the network, once `make dev` has been there.
check: lint type bandit cover ## all that has to be clean: lint, type, bandit, cover

lint: dev ## ruff: rules and layout
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# A conftest of its own each time: to mypy they are all one module.
type: dev ## mypy --strict, of the package and of the tests
	@$(BIN)/mypy
	@$(BIN)/mypy tests/e2e/conftest.py

bandit: dev ## what a security linter finds in the program
	@$(BIN)/python3 -m bandit -q -r -c pyproject.toml postfix_trouble

cover: venv ## tests but the long ones; all of policy/, 98 % of pure code, 95 % in all
	@$(BIN)/python3 -m coverage erase
	@$(BIN)/python3 -m coverage run -m pytest -q $(MANY) -m 'not (long or marathon)' \
		$(PYTEST_ARGS)
	@$(BIN)/python3 -m coverage combine --quiet
	@$(BIN)/python3 -m coverage report --fail-under=95
	@$(BIN)/python3 -m coverage report --fail-under=98 \
		--include="$$($(BIN)/python3 tools/pure.py)"
	@$(BIN)/python3 -m coverage report --fail-under=100 \
		--include='*/postfix_trouble/policy/*'

test-long: venv ## the tests that check leaves out; the two are .ci/run
	@$(PYTEST) $(MANY) -m 'long and not marathon' $(PYTEST_ARGS)

test-all: venv ## all tests at once, nothing measured; some ten minutes
	@$(PYTEST) $(MANY) -m 'not marathon' $(PYTEST_ARGS)

man: venv ## bring options and parameters in the manual pages up to date
	@$(BIN)/python3 tools/manual.py

dev: $(VENV)/.installed ## the environment, with what check wants
	@$(BIN)/python3 -c 'import bandit, mypy, ruff' 2>/dev/null \
		|| $(PIP) install --no-build-isolation '.[dev]'

##@ To look deeper
audit: venv ## known holes in what is installed; asks the network
	@$(BIN)/python3 -c 'import pip_audit' 2>/dev/null || $(PIP) install '.[audit]' || true
	@$(BIN)/python3 tools/audit.py

mutants: venv ## change the policy and the engine; do the tests notice?
	@$(BIN)/python3 tools/mutate.py $(MUTANTS)

# Needs atheris, which has a compiled part: not among what tests need.
SECONDS = 60
fuzz: venv ## fuzz the parsers, SECONDS (60) each; FUZZ_ARGS: names, --keep
	@$(BIN)/python3 -c 'import atheris' 2>/dev/null || $(PIP) install '.[fuzz]'
	@$(BIN)/python3 fuzz/fuzz.py --seconds $(SECONDS) $(FUZZ_ARGS)

MESSAGES = 100000
soak: venv ## MESSAGES (100000) through a real Postfix, killing (root, four hours)
	@$(BIN)/python3 tests/faults/soak.py --messages $(MESSAGES) --seconds 3600 \
		>.soak.txt || { cat .soak.txt; exit 1; }
	@cat .soak.txt
	@$(BIN)/python3 tools/reliability.py .soak.txt

soak-memory: venv ## 20,000 messages through an engine: it must not grow (two minutes)
	@$(BIN)/python3 tests/engine/memory.py $(BIN)/postfix-trouble

soak-lmtp: venv ## 200,000 messages through lmtp(8), ten fresh listeners (root, 12 minutes)
	@$(BIN)/python3 tests/e2e/lmtp_soak.py $(BIN)/postfix-trouble 20000 10

reliability: venv ## make all faults and attacks, and docs/reliability.md of that
	@$(PYTEST) $(MANY) -m 'fault or attack' --junitxml=.reliability.xml $(PYTEST_ARGS)
	@$(BIN)/python3 tools/reliability.py .reliability.xml

##@ To measure
bench: bench-delivery bench-throughput bench-dead ## measure it beside other programs (15 minutes)

bench-delivery: venv ## only time, CPU and memory of a delivery
	@$(BIN)/python3 bench/side_by_side.py $(BIN)/postfix-trouble

bench-throughput: venv ## only messages per second through a real Postfix
	@$(BIN)/python3 bench/throughput.py $(BIN)/postfix-trouble

bench-dead: venv ## only what a server costs that does not answer
	@$(BIN)/python3 bench/dead_destination.py

##@ To install
install: tools ## install below PREFIX (/usr/local); DESTDIR for packagers
	@tools/environment "$(PYTHON)" "$(LIBRARY)" "$(DESTDIR)"
	@$(FOLDER) "$(DESTDIR)$(PREFIX)/bin"
	@ln -sf ../lib/postfix-trouble/bin/postfix-trouble "$(DESTDIR)$(PREFIX)/bin/"
	@$(FOLDER) "$(DESTDIR)$(MAN)/man1" "$(DESTDIR)$(MAN)/man8"
	@$(FILE) man/*.1 "$(DESTDIR)$(MAN)/man1/"
	@$(FILE) man/*.8 "$(DESTDIR)$(MAN)/man8/"
	@$(FOLDER) "$(DESTDIR)$(BASH_COMPLETION)" "$(DESTDIR)$(ZSH_COMPLETION)" \
		"$(DESTDIR)$(FISH_COMPLETION)"
	@$(FILE) share/completion/postfix-trouble "$(DESTDIR)$(BASH_COMPLETION)/"
	@$(FILE) share/completion/_postfix-trouble "$(DESTDIR)$(ZSH_COMPLETION)/"
	@$(FILE) share/completion/postfix-trouble.fish "$(DESTDIR)$(FISH_COMPLETION)/"
	@$(FOLDER) "$(DESTDIR)$(DOC)/docs" "$(DESTDIR)$(DOC)/examples"
	@$(FILE) $(PAPERS) "$(DESTDIR)$(DOC)/"
	@$(FILE) docs/*.md docs/*.svg "$(DESTDIR)$(DOC)/docs/"
	@$(FILE) $(EXAMPLES) "$(DESTDIR)$(DOC)/examples/"
	@for file in $(notdir $(EXAMPLES)); do \
		sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' \
			"$(DESTDIR)$(DOC)/examples/$$file"; \
	done
	@echo "installed: $(DESTDIR)$(PREFIX)/bin/postfix-trouble"
	@[ -n "$(DESTDIR)" ] || $(PYTHON) .ci/readable "$(LIBRARY)/bin/python3" || true

uninstall: ## take away what install made
	@rm -rf "$(DESTDIR)$(LIBRARY)" "$(DESTDIR)$(DOC)"
	@rm -f "$(DESTDIR)$(PREFIX)/bin/postfix-trouble" \
		"$(DESTDIR)$(BASH_COMPLETION)/postfix-trouble" \
		"$(DESTDIR)$(ZSH_COMPLETION)/_postfix-trouble" \
		"$(DESTDIR)$(FISH_COMPLETION)/postfix-trouble.fish"
	@for page in man/*.[18]; do \
		rm -f "$(DESTDIR)$(MAN)/man$${page##*.}/$${page#man/}"; \
	done

deb: tools ## make a Debian package in dist/
	@tools/deb

##@ To start anew
clean: ## remove the environment and all that was made
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
