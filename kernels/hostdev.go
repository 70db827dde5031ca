//go:build native && cgo && hostdev

package kernels

// #cgo CXXFLAGS: -std=c++17 -O3 -march=x86-64-v3 -Wall -Wno-unknown-pragmas
// #cgo LDFLAGS: -lstdc++ -lm
import "C"

import "embed"

// Go's build does not see the files that a C++ file includes, but it does see
// embedded ones: a changed kernel or header rebuilds the package.
//
//go:embed *.cu *.h
var _ embed.FS
