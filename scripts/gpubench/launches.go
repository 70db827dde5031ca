package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// launch is what one kernel takes of a case: the sum of its launches in one run, waited for one by one.
type launch struct {
	Kernel string  `json:"kernel"`
	Count  int     `json:"count"`
	US     float64 `json:"us"`

	Reached float64 `json:"reached,omitempty"` // fraction of the roofline of its own bytes and operations, where the case gives them
}

// traceLine is what package cuda prints of each launch under FIDLAB_SYNC=1.
var traceLine = regexp.MustCompile(`(?m)^fidlab: (\w+) +([0-9.]+) us`)

// launches runs a case in a process of its own in which every launch is timed,
// and gives the kernels of its last run in the order of their first launch. So
// every kernel of an operation has a time, not only the operation.
func launches(name, device string) ([]launch, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-once", name, "-device", device)
	cmd.Env = append(os.Environ(), "FIDLAB_SYNC=1")
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s with timed launches: %w\n%s", name, err, text.Bytes())
	}
	return readTrace(text.String()), nil
}

// hold compares the launches with the rooflines of the case's parts, of its one
// kernel where it has no parts. It returns the name of a part that was not launched.
func hold(c Case, list []launch, p peaks) (missing string) {
	parts := c.Parts
	if parts == nil && len(list) == 1 && list[0].Count == 1 {
		parts = []Part{c.whole()}
	}
	for _, part := range parts {
		i := slices.IndexFunc(list, func(l launch) bool { return l.Kernel == part.Kernel })
		if i < 0 {
			missing = part.Kernel
			continue
		}
		if l := &list[i]; l.US > 0 {
			l.Reached = 1e6 * p.roofline(part) * float64(l.Count) / l.US
		}
	}
	return missing
}

// runMark parts the runs of -once in the trace.
const runMark = "gpubench: run\n"

// readTrace sums up the launches after the last mark.
func readTrace(text string) []launch {
	if i := strings.LastIndex(text, runMark); i >= 0 {
		text = text[i:]
	}
	var list []launch
	at := map[string]int{}
	for _, m := range traceLine.FindAllStringSubmatch(text, -1) {
		us, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			continue
		}
		i, seen := at[m[1]]
		if !seen {
			i = len(list)
			at[m[1]] = i
			list = append(list, launch{Kernel: m[1]})
		}
		list[i].Count++
		list[i].US += us
	}
	return list
}

// byKernel is the table of the kernels of each case.
func (r *report) byKernel() string {
	var b strings.Builder
	b.WriteString("\n## By kernel\n\nEach launch waited for and timed by itself, in one run of the case; so the sum is above the case's own time.\n" +
		"Of roofline: by the kernel's own bytes and operations, where the case gives them.\n\n")
	b.WriteString("| case | kernel | launches | us | share | of roofline |\n|---|---|---:|---:|---:|---:|\n")
	for _, x := range r.Results {
		sum := 0.0
		for _, l := range x.Launches {
			sum += l.US
		}
		for _, l := range x.Launches {
			fmt.Fprintf(&b, "| %s | %s | %d | %.1f | %.0f %% | %s |\n", x.Name, l.Kernel, l.Count, l.US, 100*l.US/max(sum, 1e-9), some("%.1f %%", 100*l.Reached))
		}
	}
	return b.String()
}
