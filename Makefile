# Every target is one line of `python -m dev`, run from a virtual environment below .local.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Debian's own Python first: what pyenv compiles by default is not optimized, and everything here takes longer.
PYTHON ?= $(or $(shell /usr/bin/python3.11 -c "import ensurepip; print(\"/usr/bin/python3.11\")" 2>/dev/null),python3)
VENV := .local/venv
DEV := $(VENV)/bin/python -m dev
READY := $(VENV)/.ready
# What ends or tells must work in any state, so it waits for no installation.
EXISTING = dev/existing.sh $(PYTHON) $(VENV)
LOCKED := requirements/bootstrap.txt requirements/dev.txt \
          operator/pyproject.toml server/pyproject.toml localcloud/pyproject.toml
# Only a KUBECONFIG given on purpose (make up KUBECONFIG=…) is used; one that happens to be exported is not.
GIVEN := $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig=$(KUBECONFIG))

# Where it is set, each of the hundreds of processes that the tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv up down status demo kind kind-down test lint types imports unit contract simulation cluster e2e images bench-serving bench-rollout bench-vm bench-localcloud bench-operator conformance crds lock clean

help: ## print this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
	  printf '%-20s %s\n' "$$target" "$$text"; done

venv: $(READY) ## make the virtual environment with all tools in .local/venv

$(READY): $(LOCKED) dev/venv.sh
	@dev/venv.sh $(PYTHON) $(VENV)
	@touch $@

up: $(READY) ## start the whole stack and leave it running (KUBECONFIG=… to use your own cluster)
	@$(DEV) up $(GIVEN)

down: ## end everything that runs here and leave nothing behind
	@$(EXISTING) down

status: ## show what runs
	@$(EXISTING) status

demo: $(READY) ## play the whole story: deploy, predict, lose the VM, serve again, delete
	@$(DEV) demo

kind: $(READY) ## play the same story in a kind cluster, which stays up
	@$(DEV) kind

kind-down: ## remove the kind cluster and all that it made
	@$(EXISTING) kind-down

test: $(READY) ## run every check
	@$(DEV) test

lint: $(READY) ## check style and formatting
	@$(DEV) test lint

types: $(READY) ## check types
	@$(DEV) test types

imports: $(READY) ## check which package may import which
	@$(DEV) test imports

unit: $(READY) ## run the tests of pure decisions
	@$(DEV) test unit

contract: $(READY) ## run foreign clients against the local cloud
	@$(DEV) test contract

simulation: $(READY) ## play months and random histories in one process, in a time that jumps
	@$(DEV) test simulation histories

cluster: $(READY) ## run the tests on a real control plane
	@$(DEV) test cluster

e2e: $(READY) ## run the tests on the whole stack
	@$(DEV) test e2e

images: $(READY) ## build the images that changed
	@$(DEV) images

bench-serving: $(READY) ## measure the model server (ARGS="--rounds=9 --only=mlp --peers", see docs/benchmarks.md)
	@$(DEV) bench-serving $(ARGS)

bench-rollout: $(READY) ## replace the model ten times under 50 requests/s and count what is lost
	@$(DEV) bench-rollout $(ARGS)

bench-vm: $(READY) ## boot VMs of the local cloud, new and after a preemption, beside a bare docker run
	@$(DEV) bench-vm $(ARGS)

bench-localcloud: $(READY) ## let 1,000 simulated VMs live a short life through the real client
	@$(DEV) bench-localcloud $(ARGS)

bench-operator: $(READY) ## bring up 500 deployments, let 2,000 rest and edit them all (ARGS="--idle-minutes=2")
	@$(DEV) bench-operator $(ARGS)

conformance: $(READY) ## let Google's own clients call the local cloud and judge every answer
	@$(DEV) conformance $(ARGS)

crds: $(READY) ## write the CRD from the models
	@$(VENV)/bin/budget-operator crd > crds/budgetdeployments.yaml.new
	@mv crds/budgetdeployments.yaml.new crds/budgetdeployments.yaml

lock: $(READY) ## compile the hash-pinned locks again
	@$(DEV) lock

clean: ## end everything and remove all of .local
	@$(EXISTING) clean
	@rm -rf .local
