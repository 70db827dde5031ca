//go:build native && cgo && hostdev

package main

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDetectors: one mistake for each detector, put into a kernel, is found by
// it, and the kernel as it is shows nothing. "make sanitize" tries all of them.
func TestDetectors(t *testing.T) {
	quick := map[string]bool{"threshold-bins": true, "threshold-clear": true, "guidance-sums": true, "lowrank-skip": true}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBuilder(root, runtime.NumCPU())
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := readKernels(filepath.Join(root, "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	r, work := &runner{builder: b}, t.TempDir()
	var tests []string
	for _, m := range mutations {
		if quick[m.name] {
			tests = append(tests, m.test)
		}
	}
	var log strings.Builder
	if err := record(work, []string{root + "/ops"}, strings.Join(tests, "|"), &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	recordings, err := readRecordings(work)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i := range mutations {
		m := &mutations[i]
		if !quick[m.name] {
			continue
		}
		tried++
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			found, err := r.try(m, kernels, recordings, filepath.Join(t.TempDir(), m.name))
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				t.Errorf("%s in %s: %s did not find it", m.kind, m.file, m.detector)
			}
		})
	}
	if tried != len(quick) {
		t.Errorf("%d of the %d quick mutations are in the table", tried, len(quick))
	}
}
