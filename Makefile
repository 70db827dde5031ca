# fidlab. Two commands: `make demo` sets up, builds and runs the main job on real data; `make test` is everything that CI runs.
GO      ?= go
CFLAGS_NATIVE ?= -O3
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X github.com/fidlab/fidlab/internal/cli.version=$(VERSION)
TOOL    := $(GO) tool -modfile=tools/go.mod
CROSS   := darwin/arm64 linux/arm64 windows/amd64
# What every cgo build needs; `make env` prints the same for a module that links this one. cuda.h is in the wheels that setup puts into
# .cuda, else in an installed toolkit: both are named, since this line is read before setup has run.
export CGO_CFLAGS  := -O2 -g -I$(CURDIR)/cuda/include -I$(CURDIR)/.cuda/nvidia/cu13/include -I/usr/local/cuda/include
export CGO_LDFLAGS := -O2 -g -L$(CURDIR)/cuda/link

.PHONY: all help setup build beam sanitize kernels kernels-check generate test golden-test browser-test demo bench lint fmt check fuzz prove prove-1 prove-short gpu-pack gpu-test gpu-bench gpu-rehearse gpubench-lines dist env clean
all: build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: .setup ## find or install what the fast build needs
.setup: scripts/setup.sh
	@scripts/setup.sh > .setup.tmp && mv .setup.tmp .setup && tail -1 .setup

build: .setup ## bin/fidlab, with the native libraries where their headers are
	@if grep -q 'native: yes' .setup; then \
		CGO_ENABLED=1 $(GO) build -trimpath -tags native -ldflags "$(LDFLAGS) -extldflags '-static-libgcc -static-libstdc++'" -o bin/fidlab ./cmd/fidlab; \
	else \
		CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/fidlab ./cmd/fidlab; \
	fi
	@echo "built bin/fidlab ($(VERSION), $$(cat .setup))"

beam: .setup ## bin/fidlab-beam, the comparison on Apache Beam; a module of its own, whose first build takes minutes
	@cd beam && if grep -q 'native: yes' ../.setup; then \
		CGO_ENABLED=1 $(GO) build -tags native -ldflags "-X main.version=$(VERSION) -extldflags '-static-libgcc -static-libstdc++'" -o ../bin/fidlab-beam ./cmd/fidlab-beam; \
	else \
		CGO_ENABLED=0 $(GO) build -ldflags "-X main.version=$(VERSION)" -o ../bin/fidlab-beam ./cmd/fidlab-beam; \
	fi
	@echo "built bin/fidlab-beam ($(VERSION))"

test: .setup ## everything that CI runs
	$(GO) run ./scripts/testall

golden-test: .setup ## the golden tests alone; FIDLAB_GOLDEN=DIR runs them on another folder of the same formats
	$(GO) run ./scripts/testall -golden

demo: build ## the main job on real data: FID of sampled digits, a grid, a page
	scripts/demo.sh

bench: build ## the speed rows against the peers, measured in one run
	scripts/bench/run.sh

browser-test: build ## pages in headless Chromium: offline, both themes, printed, by keyboard; skipped where there is none
	scripts/browser/run.sh

generate: ## write the generated files anew
	CGO_ENABLED=0 $(GO) run ./scripts/clidoc > docs/cli.md
	CGO_ENABLED=0 $(GO) run ./scripts/samplerdoc > docs/SAMPLERS.md
	CGO_ENABLED=0 $(GO) run ./scripts/systemsdoc > docs/SYSTEMS.md
	CGO_ENABLED=0 $(GO) run ./scripts/systemsdoc -pages
	CGO_ENABLED=0 $(GO) run ./scripts/modelsdoc > docs/models.md
	CGO_ENABLED=0 $(GO) run ./scripts/modelsdoc -curves
	CGO_ENABLED=0 $(GO) run ./scripts/gpubench -roofline > docs/gpu/ROOFLINE.md

lint: ## golangci-lint with .golangci.yml (its first build takes minutes)
	$(TOOL) golangci-lint run ./...
	$(TOOL) golangci-lint run --build-tags native ./...

fmt: ## format Go (gofumpt) and, where clang-format is, C
	$(TOOL) gofumpt -w $$(git ls-files '*.go')
	@if command -v clang-format >/dev/null; then clang-format -i $$(git ls-files '*.c' '*.h' '*.cc' '*.cu'); else echo "clang-format is not here (pip install clang-format==23.1.3): C files are left as they are"; fi

check: ## what a reviewer runs: formats, generated files, go.mod, lint, tests in random order
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	cd beam && $(GO) mod tidy -diff
	$(MAKE) lint test

fuzz: .setup ## every fuzz target, FUZZTIME each (default 20s)
	$(GO) run ./scripts/testall -fuzz $(or $(FUZZTIME),20s)

kernels: .setup ## compile the CUDA kernels that changed, write their launchers, their report and docs/KERNELS.md
	CGO_ENABLED=0 $(GO) run ./scripts/kernels build
	CGO_ENABLED=0 $(GO) run ./scripts/kernels generate
	CGO_ENABLED=0 $(GO) run ./scripts/kernels report
	CGO_ENABLED=0 $(GO) run ./scripts/kernels doc

kernels-check: .setup ## compile all kernels again and compare the bytes, the report and the generated files with what is committed
	CGO_ENABLED=0 $(GO) run ./scripts/kernels check -rebuild
	CGO_ENABLED=0 $(GO) run ./scripts/kernels generate -check
	CGO_ENABLED=0 $(GO) run ./scripts/kernels report -q -fresh
	CGO_ENABLED=0 $(GO) run ./scripts/kernels doc -check

sanitize: .setup ## every kernel under AddressSanitizer, UBSan and ThreadSanitizer, and a check that these find mistakes
	$(GO) run ./scripts/sanitize -mutations .

prove: build ## the proofs of all systems, full tier, into docs/systems; an interrupted one goes on where it was
	bin/fidlab prove all -o docs/systems --overwrite; status=$$?; $(MAKE) generate; exit $$status

prove-1: build ## the proofs of the group 40 12 38 03 42 33 19, full tier, a core each; tables say what a run of each arm took
	printf '%s\n' 40 12 38 03 42 33 19 | xargs -P $$(nproc) -I{} bin/fidlab prove {} --threads 1 -o docs/systems --overwrite; status=$$?; $(MAKE) generate; exit $$status

prove-short: build ## the proofs of all systems, a minute each; nothing is written
	bin/fidlab prove --short all

gpu-pack: .setup ## dist/gpu and dist/gpu.tar.gz: all that a GPU machine without Go needs to test and time the kernels
	scripts/gpu/pack.sh dist/gpu

gpu-test: gpu-pack ## the tests on this machine's GPU; elsewhere: unpack dist/gpu.tar.gz and run gpu/gpu.sh test
	dist/gpu/gpu.sh test gpu-out

gpu-bench: gpu-pack ## the kernels against their roofline and torch; elsewhere: gpu/gpu.sh bench
	dist/gpu/gpu.sh bench gpu-out

gpu-rehearse: .setup ## the same pack and script without a GPU, on the host device, at small sizes
	scripts/gpu/rehearse.sh

gpubench-lines: .setup ## bin/gpubench-lines, the benchmark with line numbers in its kernels, for scripts/profile.sh
	CGO_ENABLED=0 $(GO) run ./scripts/kernels lines .lines
	CGO_ENABLED=1 $(GO) build -overlay .lines/overlay.json -tags native -o bin/gpubench-lines ./scripts/gpubench
	rm -rf .lines

env: ## what the native flavour needs, here and in a module that links it: eval "$$(make -s env)"
	@echo 'export CGO_ENABLED=1 GOFLAGS=-tags=native'
	@echo 'export CGO_CFLAGS="$(strip $(CGO_CFLAGS))"'
	@echo 'export CGO_LDFLAGS="$(strip $(CGO_LDFLAGS))"'

dist: .setup ## archives of the binary for release, in dist/
	scripts/dist.sh "$(VERSION)"

clean: ## remove what the targets made
	rm -rf bin dist browser-out demo-out bench-out gpu-out profile-out .lines .setup
