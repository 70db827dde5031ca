# fidlab: `make demo` shows the main job on real data, `make test` is everything that CI runs.
GO ?= go

.PHONY: build test
build:
	CGO_ENABLED=1 $(GO) build -tags native -o bin/fidlab ./cmd/fidlab

test:
	$(GO) vet ./... && $(GO) test ./...
