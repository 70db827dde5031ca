package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A row by hand: 3.35 GB and 335 GFLOP of bf16 are 1 ms of an H100's memory and 0.339 of its tensor cores, and 1.675 and 1.074 of an A100's.
func TestRooflines(t *testing.T) {
	dir := t.TempDir()
	kernels := filepath.Join(dir, "KERNELS.md")
	table := "| kernel | on | registers | shared | threads | occupancy | instructions | of these |\n| `a_bf16` | sm_90a | 40 | 0 | 256 | 75 % | 10 | HMMA 1 |\n| `a_bf16` | sm_80 | 44 | 0 | 256 | 62 % | 11 | |\n"
	if err := os.WriteFile(kernels, []byte(table), 0o666); err != nil {
		t.Fatal(err)
	}
	fit, err := readFitted(kernels)
	if err != nil {
		t.Fatal(err)
	}
	fit[[2]string{"b_bf16", "sm_90a"}] = fitted{"40", "75"}
	list := []Case{{Name: "b", Kernel: "b_bf16", Shape: "4", Bytes: 3.35e9, Flops: 335e9, Peak: "bf16"}, {Name: "a", Kernel: "a_bf16", Shape: "4", Bytes: 3.35e9, Flops: 335e9, Peak: "bf16", Goal: 0.5}}
	for text, c := range map[string]struct {
		json, want string
	}{
		"before a run": {``, "| a | `a_bf16` | 4 | 3350 | 335 | 100 | 50 % | memory | 40 | 75 | 1 | 2 | memory | 44 | 62 | 1.68 | 3.35 |  |"},
		"a rehearsal":  {`{"device": "Host", "host_device": true, "results": [{"name": "a", "peak": "bf16", "hot_us": 7}]}`, "| 3.35 |  |\n"},
		"after a run":  {`{"device": "H9", "results": [{"name": "a", "peak": "bf16", "hot_us": 1250, "cold_us": 3}]}`, "| 1.68 | 3.35 | 1.25 |\n"},
	} {
		file := filepath.Join(dir, "run.json")
		if c.json != "" {
			if err := os.WriteFile(file, []byte(c.json), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		measured, err := readMeasured(dir)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(file)
		got := rooflines(list, fit, measured)
		if want := "| 40 | 75 | 1 | — | — | — | — | — | — |"; !strings.Contains(got, want) {
			t.Errorf("of one device: no %q in\n%s", want, got)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: no %q in\n%s", text, c.want, got)
		}
		if strings.Contains(got, "H9: measured ms") != (text == "after a run") {
			t.Errorf("%s: the heads are\n%s", text, got)
		}
	}
	for _, p := range []Part{{Bytes: 3.35e9, Flops: 990e9, Peak: "bf16"}, {Bytes: 3.35e9, Flops: 988e9, Peak: "bf16"}} {
		if got, want := h100.binds(p), map[bool]string{true: "bf16", false: "memory"}[p.Flops > 989e9]; got != want {
			t.Errorf("%g operations: by %s, want %s", p.Flops, got, want)
		}
	}
	if err := os.WriteFile(kernels, []byte("no table"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := readFitted(kernels); err == nil {
		t.Error("a page without kernels passed")
	}
}

// Every case's kernel is one of those that are compiled, so that the page has its registers; those
// for compute capability 9.0 alone are named after it.
func TestCasesAreOfCompiledKernels(t *testing.T) {
	fit, err := readFitted(filepath.Join("..", "..", "docs", "KERNELS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, to := range targets {
			only := strings.Contains(c.Kernel, "_hopper") && to.arch != "sm_90a"
			if (fit[[2]string{c.Kernel, to.arch}].regs == "") != only {
				t.Errorf("%s: %s has no registers on %s", c.Name, c.Kernel, to.arch)
			}
		}
	}
}
