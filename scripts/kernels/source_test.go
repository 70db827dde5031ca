package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good is a kernel file that keeps every rule; the tests below spoil one thing of it at a time.
const good = `// edmstep - one Euler step, fused.
//
//     y[i] = x[i] + t * d[i]
//
// kernels  edm_step_f32 edm_step_f16
// shapes   y, x, d: n elements,
//          contiguous.
// launch   grid ceil(n / 1024), block 256, shared 0.
// bound    memory: 12 n bytes.
// expect   regs <= 40, occupancy >= 75, has LDG.E.128, not LDL
//          STL
// expect   edm_step_f16 sm_90a: regs <= 48, HMMA >= 2
// repro    yes
// twin     ops.EDMStep
#include "device.h"

/* a comment with __global__ and asm in it */
extern "C" __global__ void __launch_bounds__(256) edm_step_f32(float* y, const float* __restrict__ d, // [n]
    float t, unsigned long long seed, int type)
{
    y[0] = d[0];
}
EXPORT(edm_step_f32)

extern "C" __global__ void __launch_bounds__(256, 2) edm_step_f16(half* y, const half* d, double t, unsigned seq_len)
{
}
EXPORT(edm_step_f16)
`

func complaints(text string) []string {
	var bad problems
	parse("kernels/edmstep.cu", text, &bad)
	return bad.list
}

func TestParse(t *testing.T) {
	var bad problems
	s := parse("kernels/edmstep.cu", good, &bad)
	if len(bad.list) > 0 {
		t.Fatalf("a good file is refused: %q", bad.list)
	}
	if len(s.entries) != 2 || len(s.contracts) != 1 || s.entries[1].contract != s.contracts[0] {
		t.Fatalf("%d entry points, %d contracts", len(s.entries), len(s.contracts))
	}
	want := []param{{"y", "Ptr"}, {"d", "Ptr"}, {"t", "F32"}, {"seed", "U64"}, {"type", "I32"}}
	for i, p := range s.entries[0].params {
		if p != want[i] {
			t.Errorf("parameter %d is %v, want %v", i, p, want[i])
		}
	}
	c := s.contracts[0]
	if got := c.fields["shapes"].text; got != "y, x, d: n elements,\ncontiguous." {
		t.Errorf("shapes: %q", got)
	}
	if c.block != 256 || c.shared != 0 {
		t.Errorf("launch: block %d, shared %d", c.block, c.shared)
	}
	if len(c.intro) != 1 || c.intro[0] != "    y[i] = x[i] + t * d[i]" {
		t.Errorf("intro: %q", c.intro)
	}
}

// Every way to spoil a kernel file is told with its line.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"no export", "EXPORT(edm_step_f16)\n", "", "kernels/edmstep.cu:25: edm_step_f16 is not followed by EXPORT"},
		{"export of nothing", "EXPORT(edm_step_f16)", "EXPORT(edm_step_f16)\nEXPORT(edm_step)", ":29: EXPORT(edm_step): there is no such"},
		{"export twice", "EXPORT(edm_step_f16)", "EXPORT(edm_step_f16)\nEXPORT(edm_step_f16)", ":29: EXPORT(edm_step_f16) is there twice"},
		{"export before", "#include \"device.h\"", "#include \"device.h\"\nEXPORT(edm_step_f32)", "edm_step_f32"},
		{"not covered", "kernels  edm_step_f32 edm_step_f16", "kernels  edm_step_f32", ":25: edm_step_f16: no contract covers it"},
		{"covers nothing", "kernels  edm_step_f32", "kernels  edm_step edm_step_f32", ":1: the contract of edmstep covers edm_step,"},
		{"contract without title", "// edmstep - one Euler step, fused.", "// one Euler step, fused.", `:1: a contract starts with "// name - title"`},
		{"contract without bound", "// bound    memory: 12 n bytes.\n", "", `:1: the contract of edmstep has no field "bound"`},
		{"unknown field", "// bound    ", "// bounds   x\n// bound    ", `:9: a contract has no field "bounds"`},
		{"field twice", "// bound    ", "// bound    x\n// bound    ", `the field "bound" is there twice`},
		{"bad continuation", "//          contiguous.", "//    contiguous.", ":7: neither a field"},
		{"repro", "repro    yes", "repro    maybe", `:13: repro is "maybe"`},
		{"struct", "float t, ", "float4 t, ", ":18: edm_step_f32: parameter \"float4 t\": float4 by value"},
		{"map that is copied", "int type", "TensorMap m", "TensorMap by value; a launch passes"},
		{"map not of the grid", "int type", "const TensorMap m", "TensorMap by value; a launch passes"},
		{"architecture", "// repro    yes", "// arch     sm_90\n// repro    yes", `:13: arch: "sm_90" is none of sm_80 sm_90a sm_100`},
		{"size_t", "int type", "size_t n", "size_t by value"},
		{"reference", "float* y", "float& y", `"&" has no place here`},
		{"array", "float* y", "float y[4]", `"[" has no place here`},
		{"template pointer", "float* y", "Tile<float, 4> y", "has no place here"},
		{"no name", "float t, ", "float, ", `parameter "float": want a type and a name`},
		{"parameter twice", "float t, ", "float y, ", `parameter "float y": the name is there twice`},
		{"no bounds", "__launch_bounds__(256) ", "", ":18: edm_step_f32: no __launch_bounds__"},
		{"not void", "__global__ void __launch_bounds__(256) ", "__global__ int __launch_bounds__(256) ", "edm_step_f32"},
		{"not extern", `extern "C" __global__ void __launch_bounds__(256) `, "__global__ void __launch_bounds__(256) ", ":18: an entry point starts with"},
		{"template", `extern "C" __global__ void __launch_bounds__(256) `, "template <int N> __global__ void __launch_bounds__(256) ", ":18: an entry point starts with"},
		{"upper case", "edm_step_f16", "edmStepF16", "is not of the form op_pass_dtype"},
		{"declaration", "#include \"device.h\"", "#include \"device.h\"\nextern \"C\" __global__ void __launch_bounds__(1) f_f32(int n);", ":16: f_f32: no body"},
		{"macro", "#include \"device.h\"", "#include \"device.h\"\n#define K(T) \\\n  extern \"C\" __global__ void f(T x)", ":17: a macro makes an entry point"},
		{"asm", "y[0] = d[0];", `asm volatile("bar.sync 0;");`, ":21: raw asm"},
		{"anonymous namespace", "#include \"device.h\"", "#include \"device.h\"\nnamespace { int two() { return 2; } }", ":16: an anonymous namespace"},
		{"system header", "#include \"device.h\"", "#include \"device.h\"\n#include <cub/cub.cuh>", ":16: #include <cub/cub.cuh>; a kernel includes"},
		{"folder", "\"device.h\"", "\"../device.h\"", `#include "../device.h"`},
		{"no include", "#include \"device.h\"", "", `:1: does not include "device.h"`},
		{"not ascii", "fused", "fus\u00e9", `:1: column 33: 'é' is not printable ASCII`},
		{"expectation", "regs <= 40", "registers <= 40", `:10: expect: "registers" is neither`},
		{"unknown kernel", "edm_step_f16 sm_90a:", "edm_step_bf16:", `:12: expect: "edm_step_bf16" is neither a kernel`},
		{"contradiction", "sm_90a: regs <= 48", "sm_90a: regs <= 48, regs <= 50", `:12: expect: "regs <= 48" and "regs <= 50" are of one scope`},
		{"no occupancy", "occupancy >= 75, ", "", ":1: expect: nothing is said of the occupancy of edm_step_f32 on sm_80 sm_90a sm_100"},
		{"no shared", "shared 0", "shared 4 n", "add \"dynamic N\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(good, c.from) {
				t.Fatalf("%q is not in the good file", c.from)
			}
			text := strings.Replace(good, c.from, c.to, 1)
			if c.name == "upper case" {
				text = strings.ReplaceAll(good, c.from, c.to)
			}
			if c.name == "no shared" {
				text = strings.Replace(good, c.from, "shared n floats", 1)
			}
			got := complaints(text)
			if !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// tree makes a house with the given kernel files.
func tree(t *testing.T, files map[string]string) *house {
	t.Helper()
	h := newHouse(t.TempDir())
	for name, text := range files {
		if err := writeFile(filepath.Join(h.dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// What holds between files: names are unique in C and in Go, headers lie in the folder and have no entry points.
func TestLoadRefuses(t *testing.T) {
	other := strings.ReplaceAll(good, "edm_step_f16", "edm_stepf16")
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"same name", map[string]string{"edmstep.cu": good, "other.cu": good}, "kernels/other.cu:18: edm_step_f32: this name is taken by kernels/edmstep.cu:18"},
		{"not a name", map[string]string{
			"edmstep.cu": good,
			"other.cu":   strings.NewReplacer("edm_step_f32", "edm_stepf32", "edm_step_f16", "edm_step_f_16").Replace(good),
			"third.cu":   strings.NewReplacer("edm_step_f32", "x_f32", "edm_step_f16", "edm_step_f16_").Replace(good),
		}, "edm_step_f16_: the name is not of the form"},
		{"same Go name", map[string]string{
			"edmstep.cu": strings.ReplaceAll(good, "edm_step_f16", "edm_step_8"),
			"other.cu":   strings.NewReplacer("edm_step_f32", "x_f32", "edm_step_f16", "edm_step8").Replace(good),
		}, "kernels/other.cu:25: EdmStep8: this name is taken by kernels/edmstep.cu:25"},
		{"missing header", map[string]string{"edmstep.cu": strings.Replace(good, "device.h", "absent.h", 1)}, `includes "absent.h", which is not in kernels/`},
		{"entry in header", map[string]string{
			"edmstep.cu": strings.Replace(good, "device.h", "edm.h", 1),
			"edm.h":      "#include \"device.h\"\n\n__global__ void f() {}\n",
		}, "kernels/edm.h:3: an entry point in a header"},
		{"asm in header", map[string]string{
			"edmstep.cu": strings.Replace(good, "device.h", "edm.h", 1),
			"edm.h":      "#include \"device.h\"\nvoid f() { asm(\"\"); }\n",
		}, "kernels/edm.h:2: raw asm"},
		{"name of the file", map[string]string{"edmStep.cu": other}, `kernels/edmStep.cu:1: the name "edmStep" is not lower-case words`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := tree(t, c.files).load(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %q", err, c.want)
			}
		})
	}
}

// The hash changes with everything that a compilation reads, and with nothing else.
func TestSourceHash(t *testing.T) {
	files := map[string]string{
		"edmstep.cu": strings.Replace(good, "device.h", "edm.h", 1),
		"edm.h":      "#include \"device.h\"\n", "device.h": "#include \"host.h\"\n", "host.h": "// a\n", "other.h": "// b\n",
	}
	h := tree(t, files)
	all, err := h.load()
	if err != nil {
		t.Fatal(err)
	}
	sum := func(version string) string {
		t.Helper()
		s, err := h.sourceHash(all[0], version)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum("13.0.88")
	if first == sum("13.0.48") {
		t.Error("the compiler's version does not count")
	}
	for _, c := range []struct {
		name    string
		matters bool
	}{{"edmstep.cu", true}, {"edm.h", true}, {"device.h", true}, {"host.h", false}, {"other.h", false}} {
		path := filepath.Join(h.dir, c.name)
		if err := os.WriteFile(path, []byte(files[c.name]+"int more; // this\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if changed := sum("13.0.88") != first; changed != c.matters {
			t.Errorf("%s: the hash changed: %v", c.name, changed)
		}
		if err := os.WriteFile(path, []byte(files[c.name]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(h.dir, "edm.h"), []byte("// why\n\n  "+files["edm.h"]), 0o666); err != nil {
		t.Fatal(err)
	}
	if sum("13.0.88") != first {
		t.Error("a comment changes the hash")
	}
	h = tree(t, files)
	if sum("13.0.88") != first {
		t.Error("the hash depends on the folder")
	}
}
