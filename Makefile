# Everything sets itself up: `make demo` or `make test` on a fresh machine is all it takes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
DATA ?= $(or $(FUSION_SHARED_DATA),../shared/data)

.PHONY: docs reference audit bench-storage help setup demo console demo-skab demo-skab-kafka demo-side-by-side demo-rollout test test-fast bench-stream bench-inference bench-latency bench-rollback bench-console bench-edge bench-flows loop soak stack faults check services services-stop lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

setup: $(STAMP)  ## Make .venv with the locked packages (done by every other target)

$(STAMP): requirements.lock deploy/bootstrap.lock deploy/metrics.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) must be on the PATH (Debian: apt-get install python3.11 python3.11-venv); or say PYTHON=..." >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement deploy/bootstrap.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	# The metrics of TSB-AD, without the models and the old numpy that the package asks for.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --requirement deploy/metrics.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup  ## The whole chain on the simulated rig; ends with a report (about 6 minutes)
	$(BIN)/fusion demo rig

console: setup  ## The demo with the operators' pages: open what it prints, Ctrl-C ends it
	$(BIN)/fusion demo rig --console

demo-skab: setup  ## A real testbed (SKAB) through the chain; needs its recording (DATA=folder)
	$(BIN)/fusion demo skab --data $(DATA)

demo-skab-kafka: setup services  ## The same through a real Apache Kafka
	FUSION_BROKER=kafka $(BIN)/fusion demo skab --data $(DATA)

demo-side-by-side: setup  ## Real sound, pictures and telemetry of unrelated machines (pipeline test)
	$(BIN)/fusion demo side-by-side --data $(DATA)

demo-rollout: setup  ## A challenger is degraded on purpose and goes back by itself; ends with a timeline
	deploy/triton/install.sh
	$(BIN)/fusion demo rollout

# Three on two cores: much of what they do is to wait for services. Long ones begin first.
TEST_WORKERS ?= 3
test: setup  ## Every test, on a real Apache Kafka too (Java 17 and Maven must be there)
	deploy/prepare-tests.sh
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup --no-loadscope-reorder fusion flows console tests

test-fast: setup  ## Unit tests only
	$(BIN)/python -m pytest fusion console tests/unit

PEERS := .services/peers
PEERS_STAMP := $(PEERS)/.complete
BENCH_OPTIONS ?=
SOAK_OPTIONS ?=

DOCS := .services/docs
docs: setup  ## Build the documentation site into out/site; whole in itself
	@test -x $(DOCS)/bin/mkdocs || { $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS) && \
	  $(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --require-hashes --requirement docs/requirements.lock; }
	$(DOCS)/bin/mkdocs build --strict

reference: setup  ## Write docs/reference anew from the product
	$(BIN)/python -m flows.reference docs/reference

AUDIT := .services/audit
audit: setup  ## SBOM into out/sbom.json, and known vulnerabilities of every locked package
	@test -x $(AUDIT)/bin/pip-audit || { $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(AUDIT) && \
	  $(BIN)/uv pip install --quiet --python $(AUDIT)/bin/python --require-hashes --requirement deploy/audit.lock; }
	deploy/audit.sh $(AUDIT)/bin

bench-storage: setup  ## What a record costs to keep, on the broker and in the lake (about a minute)
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.storage

bench-stream: setup $(PEERS_STAMP)  ## Measure beside bare clients and Quix Streams (about an hour; BENCH_OPTIONS=--short)
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.stream $(BENCH_OPTIONS)

bench-inference: setup  ## Measure ONNX Runtime, PyTorch and Triton side by side (about 6 minutes; BENCH_OPTIONS=--short)
	deploy/triton/install.sh
	$(BIN)/python -m benchmarks.inference $(BENCH_OPTIONS)

bench-latency: setup  ## Ten plants in real time through Kafka, Triton and live: how late an alarm is (about 6 minutes)
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.latency $(BENCH_OPTIONS)

bench-rollback: setup  ## Versions that misbehave on Triton, in real time: how long until they are back (about 5 minutes)
	deploy/triton/install.sh
	$(BIN)/python -m benchmarks.rollback $(BENCH_OPTIONS)

bench-console: setup  ## 200 browsers and 500 updates/s on one console (about a minute)
	$(BIN)/python -m benchmarks.console --out docs/benchmarks/console.md

bench-edge: setup  ## 10,000 tags, 8 cameras, 8 microphones through fusion edge run (about 6 minutes; BENCH_OPTIONS="--only opcua")
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.edge $(BENCH_OPTIONS)

bench-flows: setup  ## Time and memory of each flow as data grow (about 10 minutes; BENCH_OPTIONS="--scales 1")
	$(BIN)/python -m benchmarks.flows $(BENCH_OPTIONS)

LOOP_OPTIONS ?=

loop: setup  ## The plant moves, its model follows; on real services (about 10 minutes; LOOP_OPTIONS="--drift camera")
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.loop $(LOOP_OPTIONS)

soak: setup  ## An hour of plant time through the live process (about 10 minutes; SOAK_OPTIONS="--minutes 5")
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.soak $(SOAK_OPTIONS)

STACK_OPTIONS ?=

stack: setup  ## Everything real at once, part after part killed (about 25 minutes; STACK_OPTIONS="--minutes 3 --plants 2")
	deploy/prepare-tests.sh
	$(BIN)/python -m benchmarks.stack $(STACK_OPTIONS)

FAULTS_OPTIONS ?= --page docs/reliability.md

faults: setup  ## Harm 200 runs on real Kafka, write docs/reliability.md (about an hour; FAULTS_OPTIONS="--scale 0.1")
	deploy/prepare-tests.sh
	$(BIN)/python -m tests.faults $(FAULTS_OPTIONS)

$(PEERS_STAMP): benchmarks/peers.lock | $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --require-hashes --requirement benchmarks/peers.lock
	@touch $(PEERS_STAMP)

check: setup  ## ruff, pyright, import rule, lock file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	@! grep -nE 'https?://|/root|/home' requirements.lock deploy/*.lock deploy/triton/triton.lock benchmarks/peers.lock docs/requirements.lock || { echo "lock files hold names, versions and hashes only" >&2; exit 1; }

services:  ## Start a real Apache Kafka on 127.0.0.1:9092, without Docker
	deploy/kafka/kafka.sh start

services-stop:  ## Stop it
	deploy/kafka/kafka.sh stop

lock: setup  ## Resolve the dependencies of pyproject.toml anew
	$(BIN)/uv pip compile pyproject.toml --group dev --extra ray --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock
	# What the image holds: the same versions, without the tools of developers; and what builds it.
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file deploy/product.lock
	echo hatchling | $(BIN)/uv pip compile - --constraint requirements.lock --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file deploy/build.lock
	$(BIN)/uv pip compile benchmarks/peers.in --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file benchmarks/peers.lock
	for name in docs/requirements deploy/audit; do \
	  $(BIN)/uv pip compile $$name.in --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --no-emit-index-url --quiet --output-file $$name.lock || exit; done

clean: services-stop  ## Remove the environment, services and output of demos
	rm -rf $(VENV) .services out
