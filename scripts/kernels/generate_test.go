package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for c, want := range map[string]string{"edm_step_f32": "EdmStepF32", "attn_fwd_bf16": "AttnFwdBf16", "sort": "Sort", "radix_sort_8": "RadixSort8"} {
		if got := goName(c); got != want {
			t.Errorf("%s: %s, want %s", c, got, want)
		}
	}
	params := []param{{"seq_len", "I32"}, {"type", "I32"}, {"seqLen", "I32"}, {"args", "Ptr"}, {"stream", "Ptr"}, {"_3", "I32"}, {"n", "I32"}, {"N", "I32"}, {"float32", "F32"}}
	want := "seqLen type_ seqLen_ args_ stream_ p3 n N float32_"
	if got := strings.Join(goParams(params), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestGenerate(t *testing.T) {
	h := tree(t, map[string]string{"edmstep.cu": good, "device.h": "", "zlaunch_gone.go": "package kernels\n", "zhost_gone.cc": ""})
	if err := h.generate(true); err == nil || !strings.Contains(err.Error(), "zfatbin_edmstep.go zhost_edmstep.cc zhost_gone.cc zlaunch_edmstep.go zlaunch_gone.go") {
		t.Errorf("stale files: %v", err)
	}
	if err := h.generate(false); err != nil {
		t.Fatal(err)
	}
	if err := h.generate(true); err != nil {
		t.Errorf("after writing: %v", err)
	}
	if exists(filepath.Join(h.dir, "zlaunch_gone.go")) {
		t.Error("the launcher of a kernel file that is gone was left")
	}
	got, err := os.ReadFile(filepath.Join(h.dir, "zlaunch_edmstep.go"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `
// EdmStepF32 queues edm_step_f32 of edmstep.cu: one Euler step, fused.
func EdmStepF32(stream *cuda.Stream, grid cuda.Grid, y, d cuda.Ptr, t float32, seed uint64, type_ int32) {
	var args cuda.Args
	args.Ptr(y)
	args.Ptr(d)
	args.F32(t)
	args.U64(seed)
	args.I32(type_)
	stream.Launch(cuda.Func{Module: "edmstep", Name: "edm_step_f32"}, grid, &args)
}
`
	if !strings.Contains(string(got), want) {
		t.Errorf("launcher:\n%s\nwant\n%s", got, want)
	}
	fatbin := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(h.dir, "zfatbin_edmstep.go"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if f := fatbin(); !strings.Contains(f, `cuda.Register("edmstep", "")`) || strings.Contains(f, "go:embed") {
		t.Errorf("not compiled yet: %s", f)
	}
	if err := writeFile(h.fatbin("edmstep"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := h.generate(false); err != nil {
		t.Fatal(err)
	}
	if f := fatbin(); !strings.Contains(f, "//go:embed bin/edmstep.fatbin\nvar fatbinEdmstep string\n") || !strings.Contains(f, `cuda.Register("edmstep", fatbinEdmstep)`) {
		t.Errorf("compiled: %s", f)
	}
	host, err := os.ReadFile(filepath.Join(h.dir, "zhost_edmstep.cc"))
	if err != nil || !strings.HasPrefix(string(host), "//go:build native && cgo && hostdev\n") || !strings.HasSuffix(string(host), "\nnamespace {\n#include \"edmstep.cu\"\n}\n") {
		t.Errorf("host include: %q, %v", host, err)
	}
}
