package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// pinned is the compiler whose bytes are committed.
const pinned = "13.0.88"

// flags of every compilation. The PTX for later architectures is compiled by the user's driver with
// the options that its making was given to ptxas, so spills are looked for in
// the resource usage instead of with -Xptxas -Werror.
func flags(s *source) []string {
	list := []string{"-O3", "-std=c++17", "--compress-mode=size", "-Werror", "all-warnings", "-res-usage"}
	for _, a := range s.arches {
		list = append(list, "-gencode", "arch=compute_"+strings.TrimPrefix(a, "sm_")+",code="+a)
	}
	if s.whole() {
		list = append(list, "-gencode", "arch=compute_80,code=compute_80")
	}
	return append(list, "-fatbin")
}

// tools are the programs of the CUDA toolkit.
type tools struct {
	nvcc, cuobjdump string
	version         string // of nvcc, "13.0.88"
	why             string // what is lacking, "" when nothing is
}

var nvccVersion = regexp.MustCompile(`release 13\.0, V(13\.0\.\d+)`)

// findTools looks in .cuda, where scripts/setup.sh puts the wheels, and in /usr/local/cuda.
func (h *house) findTools() tools {
	var t tools
	for _, dir := range []string{filepath.Join(h.root, ".cuda/nvidia/cu13/bin"), "/usr/local/cuda/bin"} {
		nvcc := filepath.Join(dir, "nvcc")
		out, err := exec.Command(nvcc, "--version").Output()
		if m := nvccVersion.FindSubmatch(out); err == nil && m != nil && t.nvcc == "" {
			t.nvcc, t.version = nvcc, string(m[1])
		}
		if _, err := os.Stat(filepath.Join(dir, "cuobjdump")); err == nil && t.cuobjdump == "" {
			t.cuobjdump = filepath.Join(dir, "cuobjdump")
		}
	}
	var lacking []string
	if t.nvcc == "" {
		lacking = append(lacking, "nvcc 13.0")
	}
	if t.cuobjdump == "" {
		lacking = append(lacking, "cuobjdump")
	}
	if len(lacking) > 0 {
		t.why = strings.Join(lacking, " and ") + " not found in .cuda or /usr/local/cuda; scripts/setup.sh installs them where pip is"
	}
	return t
}

// compile makes the fatbin of one kernel file; spills and local memory are errors.
func (h *house) compile(t tools, s *source, out string, more ...string) error {
	stem := s.stem
	cmd := exec.Command(t.nvcc, append(append(flags(s), more...), "-o", out, stem+".cu")...)
	cmd.Dir = h.dir
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kernels/%s.cu: nvcc: %w\n%s", stem, err, withoutUsage(text.String()))
	}
	if s := spills(text.String()); len(s) > 0 {
		return fmt.Errorf("kernels/%s.cu: registers spill or a local array is in memory:\n%s", stem, strings.Join(s, "\n"))
	}
	if m := serialized.FindString(text.String()); m != "" {
		return fmt.Errorf("kernels/%s.cu: ptxas waits after every wgmma, so that nothing overlaps:\n%s", stem, m)
	}
	return nil
}

var (
	// What ptxas says, as information only, when it cannot prove that registers under wgmma are left alone,
	// and when it ignores a change of the number of registers.
	serialized = regexp.MustCompile(`(?m)^.*(wgmma\S* instructions are serialized|[Ss]etmaxnreg.*ignored).*$`)
	usageEntry = regexp.MustCompile(`Compiling entry function '(\w+)' for '(sm_\w+)'`)
	usageStack = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
)

// spills reads what -res-usage printed and lists the kernels that use local memory.
func spills(text string) []string {
	var list []string
	kernel := "?"
	for line := range strings.Lines(text) {
		if m := usageEntry.FindStringSubmatch(line); m != nil {
			kernel = m[1] + " on " + m[2]
		}
		if m := usageStack.FindStringSubmatch(line); m != nil && (m[1] != "0" || m[2] != "0" || m[3] != "0") {
			list = append(list, fmt.Sprintf("%s: %s", kernel, m[0]))
		}
	}
	return list
}

// withoutUsage leaves the compiler's complaints.
func withoutUsage(text string) string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool {
		return strings.HasPrefix(l, "ptxas info") || usageStack.MatchString(l) || strings.TrimSpace(l) == ""
	})
	return strings.Join(lines, "\n")
}

// dump runs cuobjdump on a fatbin.
func (t tools) dump(flag, fatbin string) (string, error) {
	if t.cuobjdump == "" {
		return "", errors.New(t.why)
	}
	cmd := exec.Command(t.cuobjdump, flag, fatbin)
	var text, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cuobjdump %s %s: %w\n%s", flag, fatbin, err, complaint.Bytes())
	}
	return text.String(), nil
}
