# Go and make are all that is needed. The tag lets raft-boltdb's series out; see
# docs/adr and docs/architecture.md, "Dependencies".
GO       ?= go
GOFLAGS  += -tags=hashicorpmetrics -buildvcs=false
export GOFLAGS GOTOOLCHAIN = local
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.buildVersion=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run cluster bench scale test race fuzz lint loadtest interop proto clean

help: ## show what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build: ## build bin/keyraft
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/keyraft ./cmd/keyraft

run: build ## start one node in ./keyraft-data; Ctrl-C stops it, the data stays
	@./bin/keyraft server --dev

cluster: build ## three nodes and a gateway on loopback, and the whole story with timings
	@$(GO) run ./cmd/demo -bin bin/keyraft

# More flags of the table, such as BENCH="-rounds 7 -for 5s" or BENCH="-only jwt".
BENCH ?=
RUNBENCH = KEYRAFT_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) $(GO) run ./cmd/bench

.PHONY: bin/bench
bin/bench: build
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ceiling ./internal/bench/ceiling
	CGO_ENABLED=0 $(GO) test -c -trimpath -o bin/ ./tokens ./cluster/logstore ./gateway ./fsm

# The page is made of the files alone; one of a short run, or of some rows, goes to build/.
bench: bin/bench ## what a request costs beside what it must cost: a table, build/bench.json, docs/performance.md
	$(RUNBENCH) $(BENCH)
	$(RUNBENCH) -doc docs/performance.md -scale build/scale.json

scale: bin/bench ## rate, latency and memory as there are more clients, tokens, revocations, gateways, connections
	$(RUNBENCH) -scale build/scale.json $(BENCH)

test: ## all tests that need Go alone; others say that they skip
	$(GO) vet ./...
	$(GO) test ./...

race: ## the same under the race detector
	$(GO) test -race ./...

# Seconds for each fuzz function.
FUZZ ?= 10
fuzz: ## run every fuzz function for FUZZ seconds
	@$(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/{f[n++]=$$1} /^ok/{for(i=0;i<n;i++) print $$2, f[i]; n=0}' | \
	while read -r pkg name; do echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZ)s -fuzzminimizetime 1x "$$pkg" || exit 1; done

lint: ## golangci-lint, from the tools module
	cd tools && GOFLAGS= $(GO) build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	GOFLAGS= bin/golangci-lint run ./...

# k6 is the Go module that it is; go looks itself whether there is anything to do.
.PHONY: bin/k6 bin/loadtest
bin/k6:
	cd tools && GOFLAGS= $(GO) build -o ../bin/k6 go.k6.io/k6

bin/loadtest:
	$(GO) build -o bin/loadtest ./cmd/loadtest

loadtest: build bin/k6 bin/loadtest ## the k6 scripts, short, against three nodes; writes build/loadtest.html
	@bin/loadtest

NPM_CI = npm ci --engine-strict --ignore-scripts --no-audit --no-fund
interop: ## a browser and client libraries against a server (needs npm and chromium)
	@if command -v npm >/dev/null; then for suite in browser clients; do (cd test/$$suite && $(NPM_CI)) || exit 1; done; \
	else echo "no npm: the suites in JavaScript skip"; fi
	KEYRAFT_INTEROP=1 $(GO) test -count=1 -timeout 30m -v ./test

proto: ## regenerate the protobuf code (needs protoc, Debian: protobuf-compiler)
	@mkdir -p bin
	$(GO) build -o bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	GOBIN=$(CURDIR)/bin GOFLAGS= $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	PATH=$(CURDIR)/bin:$$PATH protoc -I . --go_out=. --go_opt=module=github.com/keyraft/keyraft \
		--go-grpc_out=. --go-grpc_opt=module=github.com/keyraft/keyraft \
		fsm/state/*.proto fsm/command/*.proto cluster/peer/peer.proto

clean: ## remove what was built
	rm -rf bin build
