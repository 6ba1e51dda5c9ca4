# Everything that a person or CI runs. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

TOOLS   := $(shell scripts/tools/install.sh --dir)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -X github.com/rollcall-scim/rollcall/pkg/service.Version=$(VERSION)
export PATH := $(TOOLS):$(PATH)

SERVICES  := change-detector user-sync group-sync console rollcall
# `./...` does not reach over modules; the pattern `work` is all of them.
DIRS       = $(shell go list -m -f '{{.Dir}}')
PACKAGES   = $(DIRS:%=%/...)
# Modules that are not in the workspace, so that what they need touches no service.
OUTSIDE   := scripts/tools deploy/helm/verify services/rollcall/stories/elimity
GENERATED := proto docs/configuration.md deploy/helm/rollcall/values.schema.json deploy/helm/rollcall/README.md

.PHONY: help
help: ## Say what there is
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)$$/\1|\2/p' $(MAKEFILE_LIST) | sort | \
		while IFS='|' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

##@ Build

.PHONY: build
build: ## Build every program into bin/
	go build -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ $(SERVICES:%=./services/%) ./pkg/scim/scimtest/cmd/scimtest

.PHONY: image
image: ## Prepare the image contexts in bin/image/ (SERVICE=x for one)
	scripts/image.sh '$(VERSION)' $(or $(SERVICE),$(SERVICES))

.PHONY: demo
demo: ## Show Rollcall with a directory and a target of its own (DEMO=once: end by itself)
	scripts/slapd.sh >/dev/null
	go run ./services/rollcall/demo $(if $(filter once,$(DEMO)),-once)

.PHONY: clean
clean: ## Remove what was built here (the caches stay)
	rm -rf bin coverage.out

##@ Test

# What runs whole programs, as users do. The race detector sees their packages in tests of
# their own, and would triple the time of these.
system := '/services/rollcall\(/\|$$\)\|/rollcall/test/'

.PHONY: test
test: deps ## Run every test, units with the race detector (RUN=TestName, PKG=./pkg/bus/... for some)
	@mkdir -p bin
	GOWORK=off go -C scripts/tools test ./...
	{ result=0; go test -race -parallel 4 -shuffle=on -json $(if $(RUN),-run '$(RUN)') $(or $(PKG),$$(go list work | grep -v $(system))) || result=1; \
	  $(if $(PKG),:,WORLDS=20 go test -parallel 4 -shuffle=on -json $(if $(RUN),-run '$(RUN)') $$(go list work | grep $(system))) || result=1; exit $$result; } | \
		GOWORK=off go -C scripts/tools run ./testsum -report $(CURDIR)/bin/tests.txt

.PHONY: worlds
worlds: deps ## Compare plan, dry run and run in 200 random worlds (WORLD_SEED=n for one)
	@mkdir -p bin
	go test -count=1 -run '^TestPlanIsWhatADryRunRecordsAndARunDoes$$' -json ./services/rollcall/preview | \
		GOWORK=off go -C scripts/tools run ./testsum -report $(CURDIR)/bin/tests-worlds.txt

.PHONY: kills
kills: ## Kill the services at more fail points, creations and events than `make test` does (SEED=n; ARGS=-run=TestName)
	@mkdir -p bin
	@scripts/slapd.sh >/dev/null
	go test -count=1 -timeout 30m -json ./test/chaos -runs 24 -first 3 -both -events 10000 $(if $(SEED),-seed $(SEED)) $(ARGS) | \
		GOWORK=off go -C scripts/tools run ./testsum -report $(CURDIR)/bin/tests-kills.txt

.PHONY: chaos
chaos: ## Let random things fail on a real cluster (CHAOS_DURATION=1h; STORIES=selection, all or names; SEED=n)
	@mkdir -p bin
	@scripts/slapd.sh >/dev/null
	go test -tags cluster -count=1 -timeout 0 -json ./test/chaos/cluster -report $(CURDIR)/bin/chaos.txt \
		-stories '$(or $(STORIES),nightly)' -duration $(or $(CHAOS_DURATION),1h) $(if $(SEED),-seed $(SEED)) $(ARGS) | \
		GOWORK=off go -C scripts/tools run ./testsum -report $(CURDIR)/bin/tests-chaos.txt
	@cat bin/chaos.txt

.PHONY: defects
defects: ## Show that the stories of the cluster still find what they found (DEFECTS='late clock' for some)
	scripts/defects.sh $(DEFECTS)

.PHONY: simulate
simulate: ## Play seeds of the simulation on all cores (SEEDS=1000000; SEED=n for one, TRIES=20)
	@mkdir -p bin
	go test -c -o bin/simulation ./test/simulation
	cd test/simulation && $(CURDIR)/bin/simulation -test.run '^TestSimulation$$' -test.timeout 0 -progress \
		$(if $(SEED),-seed $(SEED) -tries $(or $(TRIES),20) -test.v,-seeds $(or $(SEEDS),1000000))

.PHONY: model
model: ## Verify the model of the claim protocol, and that it finds deliberate mistakes
	scripts/model.sh

.PHONY: test-directories
test-directories: deps ## Run the tests at Samba and 389 DS, which it installs as root (ARGS=-run=TestName)
	@mkdir -p bin
	scripts/test-directories.sh $(ARGS)

.PHONY: test-k8s
test-k8s: ## Run the chart and the demo's story on a real Kubernetes, which it builds (ARGS=--if-changed)
	@scripts/tools/install.sh helm
	scripts/test-k8s.sh $(ARGS)

.PHONY: test-keda
test-keda: ## Let a real KEDA, which it builds, scale the workers on that Kubernetes; as root
	@scripts/tools/install.sh helm
	scripts/test-k8s.sh --keda $(ARGS)

.PHONY: deps
deps: ## Bring what tests need: an LDAP server, SCIM servers and a PATCH that others wrote, Prometheus
	@scripts/slapd.sh >/dev/null
	@scripts/peers.sh >/dev/null
	@scripts/peers.sh oracle >/dev/null
	@scripts/peers.sh betterauth >/dev/null
	@scripts/peers.sh jackson >/dev/null
	@scripts/peers.sh elimity >/dev/null
	@scripts/prometheus.sh >/dev/null

.PHONY: fuzz
fuzz: ## Run every fuzz target for a moment (FUZZTIME=3s)
	scripts/fuzz.sh $(or $(FUZZTIME),3s)

.PHONY: bench
bench: deps ## Print the figures, beside a baseline of the same run (ARGS=-skip-large for the quick ones)
	go run ./services/rollcall/bench $(ARGS)

.PHONY: bench-once
bench-once: deps ## Run every benchmark once, so that they all work
	go test -run='^$$' -bench=. -benchtime=1x work | grep -v '^?'

.PHONY: chart
chart: ## Lint, render and verify the chart (UPDATE=1 writes the golden renders)
	@scripts/tools/install.sh helm
	scripts/chart.sh $(if $(UPDATE),--update)

##@ Source

.PHONY: fmt
fmt: ## Format Go and proto files
	@scripts/tools/install.sh golangci-lint buf
	golangci-lint fmt $(DIRS) $(OUTSIDE) deploy/cluster
	buf format -w

.PHONY: fmt-check
fmt-check: ## Fail where `make fmt` would change a file
	@scripts/tools/install.sh golangci-lint buf
	@golangci-lint fmt --diff $(DIRS) $(OUTSIDE) deploy/cluster || { echo 'Run `make fmt`.' >&2; exit 1; }
	@buf format --diff --exit-code || { echo 'Run `make fmt`.' >&2; exit 1; }

.PHONY: lint
lint: ## Run the linters
	@scripts/tools/install.sh golangci-lint
	golangci-lint config verify
	if command -v shellcheck >/dev/null; then shellcheck -x .ci/run scripts/*.sh scripts/tools/*.sh; else echo 'shellcheck is not installed: the scripts are not linted'; fi
	for module in $(OUTSIDE); do (cd $$module && GOWORK=off golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...); done
	golangci-lint run --allow-parallel-runners $(PACKAGES)

.PHONY: generate
generate: proto ## Write every generated file anew
	go test ./pkg/connection -run '^TestReferenceIsUpToDate$$' -count=1 -update
	scripts/chart-generate.sh

.PHONY: generate-check
generate-check: ## Fail where `make generate` changes a file
	scripts/unchanged.sh 'make generate' $(GENERATED) -- $(MAKE) generate

.PHONY: proto
proto: ## Lint, format and generate from the proto files; compare with the last release
	@scripts/tools/install.sh buf protoc-gen-go
	buf lint
	buf format -w
	buf generate
	scripts/buf-breaking.sh

.PHONY: sync
sync: ## Tidy every module and bring them in line with the workspace
	scripts/sync.sh

.PHONY: sync-check
sync-check: ## Fail where `make sync` changes a file
	scripts/unchanged.sh 'make sync' go.work go.work.sum '*go.mod' '*go.sum' -- $(MAKE) sync

.PHONY: alone
alone: ## Build and vet every module without the workspace, as images are built
	scripts/alone.sh

##@ All of it

.PHONY: tools
tools: ## Install the pinned tools into the cache
	scripts/tools/install.sh buf protoc-gen-go golangci-lint helm

.PHONY: check
check: ## Everything that CI runs, in order of cost
	scripts/check.sh fmt-check generate-check sync-check alone build lint model test worlds "chaos STORIES=selection" test-directories fuzz bench-once chart "test-k8s ARGS=--if-changed"
