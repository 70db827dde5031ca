package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What cuobjdump prints, shortened: two kernels on two architectures.
const (
	usageText = `
Fatbin elf code:
================
arch = sm_80
code version = [1,8]

Resource usage:
 Common:
  GLOBAL:0
 Function edm_step_f16:
  REG:40 STACK:0 SHARED:256 LOCAL:0 CONSTANT[0]:388 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function edm_step_f32:
  REG:17 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:388 TEXTURE:0 SURFACE:0 SAMPLER:0

Fatbin elf code:
================
arch = sm_90a

Resource usage:
 Function edm_step_f16:
  REG:38 STACK:0 SHARED:1280 LOCAL:0 CONSTANT[0]:388 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function edm_step_f32:
  REG:16 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:388 TEXTURE:0 SURFACE:0 SAMPLER:0
`
	sassText = `
Fatbin elf code:
================
arch = sm_80

	code for sm_80
	.target	sm_80

		Function : edm_step_f32
	.headerflags	@"EF_CUDA_SM80"
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;              /* 0x00000a00ff017624 */
                                                                                        /* 0x000fe400078e00ff */
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, [R2.64] ;                     /* 0x0000002000000947 */
        /*0020*/             @UP1 LDG.E R4, [R2.64] ;                                   /* 0x0000002000000947 */
        /*0030*/              @PT HMMA.16816.F32.BF16 R4, R8, R2, R4 ;                   /* 0x0000002000000947 */
        /*0040*/                   EXIT ;                                               /* 0x000000000000794d */
        /*0050*/                   NOP ;                                                /* 0x000000000000794d */
		..........
		Function : edm_step_f16
        /*0000*/                   FFMA R5, R4.reuse, -R3, 1 ;                          /* 0x3f80000004057423 */
arch = sm_90a
		Function : edm_step_f32
        /*0000*/                   FFMA R5, R4.reuse, -R3, 1 ;                          /* 0x3f80000004057423 */
        /*1fff0*/                  FFMA R5, R4.reuse, -R3, 1 ;                          /* 0x3f80000004057423 */
`
	ptxText = `
.visible .entry edm_step_f32(
.param .u64 edm_step_f32_param_0,
)
.maxntid 256, 1, 1
{
.visible .entry edm_step_f16(
)
.maxntid 32, 4
.minnctapersm 2
`
)

func TestDisassembly(t *testing.T) {
	list, err := readUsage(usageText)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range list {
		list[i].Ops = map[string]int{"LDG": 0, "LDG.E.128": 0, "HMMA.F32": 0, "FFMA": 0, "STL": 0}
		got = append(got, list[i].Kernel+" "+list[i].Arch)
	}
	if want := "edm_step_f16 sm_80,edm_step_f32 sm_80,edm_step_f16 sm_90a,edm_step_f32 sm_90a"; strings.Join(got, ",") != want {
		t.Fatalf("kernels %v", got)
	}
	if list[0].Regs != 40 || list[0].Shared != 256 || list[2].Shared != 256 || list[3].Shared != 0 {
		t.Errorf("usage: %+v", list)
	}
	countOps(list, sassText)
	if want := map[string]int{"LDG": 2, "LDG.E.128": 1, "HMMA.F32": 1, "FFMA": 0, "STL": 0}; !maps.Equal(list[1].Ops, want) || list[1].Instructions != 5 {
		t.Errorf("sm_80: %d instructions, %v", list[1].Instructions, list[1].Ops)
	}
	if list[3].Ops["FFMA"] != 2 || list[0].Ops["FFMA"] != 1 || list[2].Instructions != 0 {
		t.Errorf("the others: %+v", list)
	}
	if b := readBounds(ptxText); b["edm_step_f32"] != 256 || b["edm_step_f16"] != 128 {
		t.Errorf("launch bounds: %v", b)
	}
	if _, err := readUsage(strings.Replace(usageText, "STACK:0", "STACK:8", 1)); err == nil || !strings.Contains(err.Error(), "edm_step_f16 on sm_80 uses 8 bytes of stack") {
		t.Errorf("stack: %v", err)
	}
}

func TestSpills(t *testing.T) {
	text := `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'good' for 'sm_80'
ptxas info    : Function properties for good
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'bad' for 'sm_90a'
ptxas info    : Function properties for bad
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
`
	got := spills(text)
	if want := []string{"bad on sm_90a: 8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// compiled makes a house with the good file as if it had been compiled: a record without a compiler.
func compiled(t *testing.T, change func(r *record)) *house {
	t.Helper()
	h := tree(t, map[string]string{"edmstep.cu": good, "device.h": "#pragma once\n"})
	all, err := h.load()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := h.sourceHash(all[0], pinned)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{Source: sum, Compiler: pinned, Fatbin: hash([]byte("fatbin")), Size: 6}
	for _, k := range all[0].entries {
		for _, a := range arches {
			u := usage{Kernel: k.name, Arch: a, Regs: 32, Threads: 256, Instructions: 100, Ops: map[string]int{"LDG.E.128": 2, "HMMA": 4}}
			r.Kernels = append(r.Kernels, u)
		}
	}
	if change != nil {
		change(r)
	}
	if err := writeFile(h.fatbin("edmstep"), []byte("fatbin")); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(h.record("edmstep"), r.encode()); err != nil {
		t.Fatal(err)
	}
	return h
}

// Each expectation that is not met is told with the contract's line, the kernel and the architecture.
func TestReport(t *testing.T) {
	if err := compiled(t, nil).report(true, false); err != nil {
		t.Errorf("all is well: %v", err)
	}
	for _, c := range []struct {
		name, want string
		change     func(u *usage)
	}{
		{"registers", "kernels/edmstep.cu:10: edm_step_f32 on sm_80: regs is 41; the contract expects regs <= 40", func(u *usage) { u.Regs = 41 }},
		{"occupancy", "kernels/edmstep.cu:10: edm_step_f32 on sm_80: occupancy is 62.5; the contract expects occupancy >= 75", func(u *usage) { u.Regs = 40; u.Shared = 30000 }},
		{"missing instruction", "LDG.E.128 is 0; the contract expects LDG.E.128 >= 1", func(u *usage) { delete(u.Ops, "LDG.E.128") }},
		{"unwanted instruction", "STL is 3; the contract expects STL <= 0", func(u *usage) { u.Ops["STL"] = 3 }},
		{"launch bound", "kernels/edmstep.cu:8: edm_step_f32 on sm_80: the launch has 256 threads a block, the launch bound is 128", func(u *usage) { u.Threads = 128 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := compiled(t, func(r *record) {
				for i := range r.Kernels {
					if u := &r.Kernels[i]; u.Kernel == "edm_step_f32" && u.Arch == "sm_80" {
						c.change(u)
					}
				}
			})
			if err := h.report(true, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	lost := compiled(t, func(r *record) { r.Kernels = r.Kernels[1:] })
	if err := lost.report(true, false); err == nil || !strings.Contains(err.Error(), "nothing of edm_step_f32 on sm_80") {
		t.Errorf("a kernel without a record: %v", err)
	}
	rule := compiled(t, nil)
	if err := writeFile(filepath.Join(rule.dir, "edmstep.cu"), []byte(strings.Replace(good, "has LDG.E.128", "has LDG.E.64", 1))); err != nil {
		t.Fatal(err)
	}
	if err := rule.report(true, false); err == nil || !strings.Contains(err.Error(), "LDG.E.64 was not counted; run make kernels") {
		t.Errorf("an instruction that was not counted: %v", err)
	}
}

func TestCheck(t *testing.T) {
	if err := compiled(t, nil).check(false); err != nil {
		t.Errorf("all is well: %v", err)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(h *house) error
	}{
		{"changed source", "kernels/edmstep.cu: it or a header changed", func(h *house) error {
			return writeFile(filepath.Join(h.dir, "edmstep.cu"), []byte(strings.Replace(good, "d[0]", "d[1]", 1)))
		}},
		{"changed header", "it or a header changed", func(h *house) error {
			return writeFile(filepath.Join(h.dir, "device.h"), []byte("#pragma once\nint x;\n"))
		}},
		{"another fatbin", "kernels/bin/edmstep.fatbin is not the one", func(h *house) error { return writeFile(h.fatbin("edmstep"), []byte("other")) }},
		{"no fatbin", "edmstep.fatbin", func(h *house) error { return os.Remove(h.fatbin("edmstep")) }},
		{"no record", "not compiled yet", func(h *house) error { return os.Remove(h.record("edmstep")) }},
		{"record of another form", "make kernels writes it anew", func(h *house) error { return writeFile(h.record("edmstep"), []byte(`{"sources":"x"}`)) }},
		{"record without source", "kernels/bin/gone.fatbin has no source", func(h *house) error { return writeFile(h.fatbin("gone"), []byte("x")) }},
		{"new source", "kernels/other.cu: not compiled yet", func(h *house) error {
			return writeFile(filepath.Join(h.dir, "other.cu"), []byte(strings.NewReplacer("edm_step", "other_step").Replace(good)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := compiled(t, nil)
			if err := c.spoil(h); err != nil {
				t.Fatal(err)
			}
			if err := h.check(false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	big := compiled(t, func(r *record) { r.Size = maxTotal + 1 })
	if err := big.check(false); err == nil || !strings.Contains(err.Error(), "at most 8388608") {
		t.Errorf("too large: %v", err)
	}
}

func TestDoc(t *testing.T) {
	h := compiled(t, nil)
	if err := h.doc(true); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("before it is written: %v", err)
	}
	if err := h.doc(false); err != nil {
		t.Fatal(err)
	}
	if err := h.doc(true); err != nil {
		t.Errorf("after: %v", err)
	}
	b, err := os.ReadFile(h.docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `edm_step_f32` `edm_step_f16` | [edmstep.cu](#edmstepcu) | one Euler step, fused. | memory: 12 n bytes. |",
		"    y[i] = x[i] + t * d[i]\n",
		"| expected | regs &lt;= 40, occupancy >= 75, has LDG.E.128, not LDL STL; edm\\_step\\_f16 sm\\_90a: regs &lt;= 48, HMMA >= 2 |",
		"| `edm_step_f16` | sm_100 | 32 | 0 | 256 | 100 % | 100 | HMMA 4, LDG.E.128 2 |",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

// toolkit is the module's root and the compiler that it has; without one the test is skipped.
func toolkit(t *testing.T) (root string, tl tools) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if tl = newHouse(root).findTools(); tl.why != "" {
		t.Skip(tl.why)
	}
	return root, tl
}

// A kernel file compiled from a copy in another folder gives the committed
// bytes. One small file is enough in a test; make kernels-check compares all.
// guidance.cu has shared arrays, into whose names nvcc can put the folder.
func TestSameBytesElsewhere(t *testing.T) {
	const stem = "guidance"
	root, tl := toolkit(t)
	if tl.version != pinned {
		t.Skipf("this is nvcc %s, what is committed comes from %s", tl.version, pinned)
	}
	home := newHouse(root)
	s, err := home.load()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(s, func(s *source) bool { return s.stem == stem })
	want, err := home.sourceHash(s[at], pinned)
	if err != nil {
		t.Fatal(err)
	}
	if err := home.fresh(s[at], want); err != nil {
		t.Fatal(err)
	}
	copied, err := filepath.Glob(filepath.Join(home.dir, "*.h"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range append(copied, filepath.Join(home.dir, stem+".cu")) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(f)] = string(b)
	}
	elsewhere := tree(t, files)
	out := filepath.Join(t.TempDir(), stem+".fatbin")
	if err := elsewhere.compile(tl, s[at], out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(home.fatbin(stem))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, committed) {
		t.Errorf("kernels/%s.cu compiled in another folder gives other bytes than kernels/bin/%s.fatbin (%d and %d of them); what depends on the folder?", stem, stem, len(got), len(committed))
	}
}

// With the compiler here: a kernel is compiled, recorded, found fresh and the
// same when compiled again elsewhere; one that spills is refused.
func TestBuild(t *testing.T) {
	root, tl := toolkit(t)
	device := "#pragma once\n#include <cuda_fp16.h>\n#define EXPORT(f)\n"
	h := tree(t, map[string]string{"edmstep.cu": vector, "device.h": device})
	// The tools lie in the module's own folder; the house of the test has a link to it.
	if dir := filepath.Join(root, ".cuda"); exists(dir) {
		if err := os.Symlink(dir, filepath.Join(h.root, ".cuda")); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.build(false, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.check(tl.version == pinned); err != nil {
		t.Error(err)
	}
	if err := h.report(true, true); err != nil {
		t.Error(err)
	}
	r, err := h.readRecord("edmstep")
	if err != nil {
		t.Fatal(err)
	}
	if u := r.Kernels[1]; u.Arch != "sm_90a" || u.Threads != 64 || u.Shared != 256 || u.Regs < 4 || u.Ops["LDG.E.128"] != 1 || u.Ops["BAR"] != 1 {
		t.Errorf("recorded: %+v", u)
	}
	local := "{ float w[64]; for (int k = 0; k < 64; k++) w[k] = s[k]; for (int k = 0; k < n; k++) w[k & 63] += w[k * 7 & 63]; y[i] = make_float4(w[n & 63], 0, 0, 0); }"
	if err := writeFile(filepath.Join(h.dir, "edmstep.cu"), []byte(strings.Replace(vector, "y[i] = v", local, 1))); err != nil {
		t.Fatal(err)
	}
	if err := h.build(false, 1, nil); err == nil || !strings.Contains(err.Error(), "edm_copy_f32 on sm_80: 256 bytes stack frame") {
		t.Errorf("a local array in memory: %v", err)
	}
	if err := writeFile(filepath.Join(h.dir, "edmstep.cu"), []byte(strings.Replace(vector, "y[i] = v", "int unused; y[i] = v", 1))); err != nil {
		t.Fatal(err)
	}
	if err := h.build(false, 1, nil); err == nil || !strings.Contains(err.Error(), "unused") {
		t.Errorf("a warning of the compiler: %v", err)
	}
}

const vector = `// copy - a copy by way of a shared sum.
// kernels  edm_copy_f32
// shapes   y, x: n float4
// launch   grid n / 64, block 64, shared 0
// bound    memory: 32 n bytes
// expect   regs <= 40, shared <= 256, occupancy >= 75, has LDG.E.128 STG.E.128
// repro    yes
// twin     none
#include "device.h"

extern "C" __global__ void __launch_bounds__(64) edm_copy_f32(float4* y, const float4* x, int n)
{
    __shared__ float s[64];
    const int i = blockIdx.x * 64 + threadIdx.x;
    const float4 v = x[i];
    s[threadIdx.x] = v.x;
    __syncthreads();
    if (s[63 - threadIdx.x] < n)
        y[i] = v;
}
EXPORT(edm_copy_f32)
`
