//go:build !native || !cgo

package plan

import "errors"

func nativeProblem(Precision) error {
	return errors.New("built without native libraries (build with CGO_ENABLED=1 and -tags native)")
}

func compileNative(*Graph, Options) (engine, error) {
	panic("plan: the native plan is not compiled in")
}
