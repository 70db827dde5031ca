//go:build !(native && cgo)

package onnx

import "errors"

// errPure says why this flavour opens no model.
var errPure = errors.New("onnx: this build is pure Go and cannot open onnxruntime; build with the tag native (make build)")

// Library would be the file and version of the onnxruntime in use.
func Library(func(string) string) (path, version string, err error) { return "", "", errPure }

func start(string, Options) (runner, error) { return nil, errPure }
