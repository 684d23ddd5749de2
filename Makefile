# Everything here also works by hand; `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_VERSION := v2.15.0
# The version is in the name, so that another one is built when it changes.
GOLANGCI := .tools/golangci-lint-$(GOLANGCI_VERSION)

# Packages that ship their own JavaScript tests.
NPM_TESTS := $(patsubst %/package.json,%,$(wildcard sdk/*/package.json engine/wasm/testdata/*/*/package.json benchmarks/guests/*/package.json))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## Build the edged binary into this folder
	CGO_ENABLED=0 go build -trimpath -o edged ./cmd/edged

.PHONY: test
test: setup vet format ## Run everything: vet, format, Go tests with -race, plugins rebuilt and compared, SDK tests
	go test -race -timeout 20m $$(go list ./... | grep -v -e /sdk$$ -e /conformance$$)
	go test ./sdk ./engine/plugindev/conformance # one goroutine and large modules: the race detector would find nothing, slowly
	cd benchmarks && go vet ./... && go test ./...
	plugins/verify.sh
	sdk/verify.sh
	PATH="/usr/bin:$$PATH" go test -tags toolchains -timeout 30m -run '^TestNewProjects' ./cmd/edged # the toolchains of setup, whatever else there is
	@for dir in $(NPM_TESTS); do \
		echo "npm test in $$dir"; \
		(cd "$$dir" && npm ci --no-audit --no-fund && npm test); \
	done

ROUNDS ?= 500
LINKS ?= 200

.PHONY: torture
torture: ## Kill edge and hub, cut the power, and damage the store, ROUNDS times (500) each, and put the links into trouble LINKS times (200), at random; hold what arrived against what was read
	EDGED_TORTURE_LINKS=$(LINKS) go test -v -timeout 0 -run '^(TestBadLinks|TestCase17Flapping)$$' ./engine ./engine/keyed
	EDGED_TORTURE_ROUNDS=$(ROUNDS) go test -v -timeout 0 -run '^(TestKill9|TestPowerCut|TestPowerCutRelaxed|TestDiskFaults|TestDiskFull)$$' ./cmd/edged
	EDGED_TORTURE_ROUNDS=$(ROUNDS) go test -v -timeout 0 -run '^TestDamage$$' ./engine

RECORDS ?= 1000000

.PHONY: soak
soak: ## Let RECORDS (a million) gather while the hub is away and drain them; hold memory, order and that all arrives once
	EDGED_SOAK_RECORDS=$(RECORDS) go test -v -timeout 0 -run '^TestSoak$$' ./cmd/edged

.PHONY: setup
setup: # what `test` needs beside Go
	.ci/setup

.PHONY: vet
vet:
	go vet ./...

.PHONY: format
format: # fails with the list of files that gofmt would change
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [[ -n "$$files" ]]; then \
		echo "gofmt would change these files (run: gofmt -w <file>):"; echo "$$files"; exit 1; \
	fi

.PHONY: lint
lint: $(GOLANGCI) ## Run golangci-lint as pinned here (the first run builds it)
	$(GOLANGCI) run ./...
	cd benchmarks && ../$(GOLANGCI) run ./...

# From source through the Go module proxy: checked by the checksum database,
# and built with the Go version that it will read.
$(GOLANGCI):
	@mkdir -p .tools
	GOBIN="$(CURDIR)/.tools" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv .tools/golangci-lint $@

.PHONY: bench
bench: ## Measure edged against its peers, and write the raw results (benchmarks/README.md)
	cd benchmarks && go run . --out results

.PHONY: plugins
plugins: setup ## Rebuild the .wasm files of the plugins we ship
	plugins/build.sh

.PHONY: sdk
sdk: setup ## Rebuild the .wasm files that the SDKs are tested with
	sdk/build.sh

.PHONY: reference
reference: ## Write the reference pages from the code
	go run ./cmd/edged reference --write .
