package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// targets are the devices that the page predicts for, with the compute capability whose code they run.
var targets = []struct{ name, arch string }{{"H100", "sm_90a"}, {"A100", "sm_80"}}

// fitted is what the disassembler and the occupancy formula say of a kernel's code for one target.
type fitted struct{ regs, occupancy string }

// readFitted takes registers and occupancy of every kernel from docs/KERNELS.md, by kernel and architecture.
func readFitted(path string) (map[[2]string]fitted, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[[2]string]fitted{}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, "|")
		if len(f) != 10 || !strings.HasPrefix(f[1], " `") {
			continue // rows of what was measured have eight cells
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if strings.HasPrefix(f[2], "sm_") {
			out[[2]string{strings.Trim(f[1], "`"), f[2]}] = fitted{f[3], strings.ReplaceAll(f[6], " %", "")}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no kernel with its registers", path)
	}
	return out, nil
}

// readMeasured takes the results of all runs on GPUs in a folder: the device's name, and microseconds by case.
func readMeasured(dir string) (map[string]map[string]float64, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]float64{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if r.Host || r.Device == "" {
			continue // of a rehearsal, or no result of the benchmark
		}
		us := map[string]float64{}
		for _, x := range r.Results {
			if v := x.time(); v > 0 && x.Error == "" {
				us[x.Name] = v
			}
		}
		out[r.Device] = us
	}
	return out, nil
}

// binds says what takes longer on a device, the bytes or the operations, and of which units.
func (p peaks) binds(x Part) string {
	if x.Peak != "memory" && x.Flops/p[x.Peak] > x.Bytes/p["memory"] {
		return x.Peak
	}
	return "memory"
}

// rooflines is docs/gpu/ROOFLINE.md.
func rooflines(list []Case, fit map[[2]string]fitted, measured map[string]map[string]float64) string {
	var b strings.Builder
	b.WriteString(`# Rooflines

Made by ` + "`make generate`" + ` from the cases of ` + "`make gpu-bench`" + `, the data sheets and what the disassembler says of the code; do not edit.

A case is a kernel, or an operation of several, at a size that networks and scorers of today have. *MB* is what must be read or written, each operand once, *GFLOP* the operations, a multiplication and an addition
two. No program can be faster than the longer of the two times that these take at the device's peaks:

    bound = max(bytes / bandwidth, operations / peak of the units)

*predicted* is that bound over the share of it that the kernel's contract promises, where it promises one: **a formula, not a measurement**. *intensity* is operations a byte; *by* is what takes the longer time.
Registers and occupancy are those of the kernel that takes most of the time, for the code that the device runs. *measured* is what ` + "`make gpu-bench`" + ` saw on a GPU; it is empty where none has run it yet.

`)
	b.WriteString("| device | code | memory TB/s | f32 TFLOP/s | f64 | f64 on tensor cores | f16, bf16 |\n|---|---|---:|---:|---:|---:|---:|\n")
	for _, t := range targets {
		what, p := peaksOf(t.name)
		fmt.Fprintf(&b, "| %s | %s | %.3g | %.3g | %.3g | %.3g | %.3g |\n", what, t.arch, p["memory"]/tera, p["f32"]/tera, p["f64"]/tera, p["f64t"]/tera, p["bf16"]/tera)
	}
	devices := make([]string, 0, len(measured))
	for d := range measured {
		devices = append(devices, d)
	}
	slices.Sort(devices)
	b.WriteString("\n| case | kernel | shape | MB | GFLOP | intensity | promised |")
	rule := "\n|---|---|---|---:|---:|---:|---:|"
	for _, t := range targets {
		fmt.Fprintf(&b, " %s: by | registers | occupancy %% | bound ms | predicted ms |", t.name)
		rule += "---|---:|---:|---:|---:|"
	}
	if len(devices) == 0 {
		b.WriteString(" measured ms |")
		rule += "---:|"
	}
	for _, d := range devices {
		fmt.Fprintf(&b, " %s: measured ms |", d)
		rule += "---:|"
	}
	b.WriteString(rule + "\n")
	for _, c := range list {
		x := c.whole()
		promised := "—"
		if c.Goal > 0 {
			promised = strconv.FormatFloat(100*c.Goal, 'g', 3, 64) + " %"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %.4g | %.4g | %.3g | %s |", c.Name, c.Kernel, c.Shape, c.Bytes/1e6, c.Flops/1e9, c.Flops/c.Bytes, promised)
		for _, t := range targets {
			_, p := peaksOf(t.name)
			k, ms := fit[[2]string{c.Kernel, t.arch}], 1e3*p.roofline(x)
			if k.regs == "" { // compiled for another device alone
				b.WriteString(" — | — | — | — | — |")
				continue
			}
			predicted := "—"
			if c.Goal > 0 {
				predicted = fmt.Sprintf("%.3g", ms/c.Goal)
			}
			fmt.Fprintf(&b, " %s | %s | %s | %.3g | %s |", p.binds(x), k.regs, k.occupancy, ms, predicted)
		}
		if len(devices) == 0 {
			b.WriteString("  |")
		}
		for _, d := range devices {
			fmt.Fprintf(&b, " %s |", some("%.3g", measured[d][c.Name]/1e3))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// printRooflines prints the page, from the root of the repository.
func printRooflines(list []Case) error {
	if tiny {
		return fmt.Errorf("the page is of full sizes; leave FIDLAB_BENCH_TINY away")
	}
	fit, err := readFitted(filepath.Join("docs", "KERNELS.md"))
	if err != nil {
		return err
	}
	measured, err := readMeasured(filepath.Join("docs", "gpu"))
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(rooflines(list, fit, measured))
	return err
}
