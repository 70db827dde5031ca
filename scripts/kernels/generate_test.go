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

// A file for one architecture: its launchers say where it runs, take tensor maps, and the
// contract need say nothing of others.
func TestGenerateForOne(t *testing.T) {
	text := strings.NewReplacer("// repro ", "// arch     sm_90a\n// repro ", "int type", "const __grid_constant__ TensorMap rows",
		"regs <= 40, occupancy >= 75", "sm_90a: regs <= 40, occupancy >= 75").Replace(good)
	h := tree(t, map[string]string{"edmstep.cu": text, "device.h": ""})
	all, err := h.load()
	if err != nil {
		t.Fatal(err)
	}
	if f := strings.Join(flags(all[0]), " "); !strings.Contains(f, "-gencode arch=compute_90a,code=sm_90a -fatbin") || strings.Contains(f, "80") {
		t.Errorf("flags %s", f)
	}
	if e := all[0].entries; e[0].threads != 256 || e[1].threads != 256 {
		t.Errorf("launch bounds %d and %d", e[0].threads, e[1].threads)
	}
	b, err := launchers(all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"// EdmstepHere tells whether device d runs the kernels of edmstep.cu, which are compiled for sm_90a alone.\nfunc EdmstepHere(d cuda.Device) bool { return d.Major == 9 && d.Minor == 0 }\n",
		"seed uint64, rows cuda.TensorMap) {", "\targs.Map(&rows)\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s\nwant %q", b, want)
		}
	}
	var bad problems
	parse("kernels/edmstep.cu", text+strings.Replace(strings.ReplaceAll(good, "edm_step", "other"), "edmstep -", "other -", 1), &bad)
	if got := strings.Join(bad.list, "\n"); !strings.Contains(got, "the contract of other is for sm_80 sm_90a sm_100, the one above it for sm_90a; a file is compiled for one list") {
		t.Errorf("two lists in one file: %s", got)
	}
}

func TestSerialized(t *testing.T) {
	for text, want := range map[string]bool{
		"ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register resources for the wgmma pipeline in function 'a'": true,
		"ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum register requirement.":                                                            true,
		"ptxas info    : Used 168 registers, used 16 barriers": false,
	} {
		if got := serialized.MatchString(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
