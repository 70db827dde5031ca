//go:build native && cgo

package onnx

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
)

// installed is the library that make setup installs, or another that is here.
func installed(t *testing.T) string {
	t.Helper()
	getenv := os.Getenv
	if lib := inFolder(filepath.Join("..", ".onnx")); lib != "" && os.Getenv(LibraryEnv) == "" {
		return lib
	}
	lib, err := FindLibrary(getenv)
	if err != nil {
		t.Skipf("%v (make setup installs it where pip is)", err)
	}
	return lib
}

// A library that is none is refused, and does not keep a good one from being
// opened later; so are files that are no models. The signature is the file's.
func TestOpen(t *testing.T) {
	lib, dir := installed(t), t.TempDir()
	path := oracle.Golden(t, "onnx", "text.onnx")
	bad := filepath.Join(dir, "lib.so")
	if err := os.WriteFile(bad, []byte("no library"), 0o666); err != nil {
		t.Fatal(err)
	}
	if opened.path == "" {
		if _, err := Open(path, Options{Library: bad}); err == nil || !strings.Contains(err.Error(), "lib.so cannot be used") || !strings.Contains(err.Error(), "pip install onnxruntime") {
			t.Errorf("a file that is no library: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.onnx"), []byte("no model"), 0o666); err != nil {
		t.Fatal(err)
	}
	side := &Sidecar{Prediction: "v", Path: PathSpec{Name: "vp"}}
	for file, want := range map[string]string{"bad.onnx": "bad.onnx: ", "none.onnx": "none.onnx: no such file"} {
		if _, err := Open(filepath.Join(dir, file), Options{Library: lib, Sidecar: side}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", file, err, want)
		}
	}
	m, err := Open(path, Options{Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range append(m.Inputs, m.Outputs...) {
		got = append(got, p.String())
	}
	want := "sample float32[-1 4 8 8] timestep int64[] encoder_hidden_states float32[-1 5 12] out_sample float32[-1 4 8 8]"
	if strings.Join(got, " ") != want {
		t.Errorf("signature %s, want %s", strings.Join(got, " "), want)
	}
	x, words := gpu.CPU().Empty(2, 4, 8, 8), map[string]*gpu.Tensor{"encoder_hidden_states": gpu.CPU().Empty(2, 5, 12)}
	if err := m.Forward(context.Background(), x.Like(), x, []float64{1, 2}, nil, words); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Forward(context.Background(), x.Like(), x, []float64{1, 2}, nil, words); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
	if file, version, err := Library(func(string) string { return lib }); err != nil || file != lib || !strings.HasPrefix(version, "1.") {
		t.Errorf("library %s, version %s, %v; want %s", file, version, err, lib)
	}
}
