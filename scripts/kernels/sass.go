package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// interesting instructions are counted for every kernel.
var interesting = []string{
	"HMMA", "HGMMA", "LDSM", "LDGSTS", "LDG", "LDG.E.128", "STG", "STG.E.128", "LDS", "LDS.128", "STS", "STS.128", "LDL", "STL",
	"FFMA", "FADD", "FMUL", "DFMA", "HFMA2", "MUFU", "SHFL", "BAR", "RED", "REDG", "ATOM", "ATOMG", "ATOMS", "IMAD", "BRA",
}

var (
	dumpArch     = regexp.MustCompile(`^\s*arch = (sm_\w+)`)
	dumpFunction = regexp.MustCompile(`^\s*Function\s*:?\s+(\w+):?\s*$`)
	dumpUsage    = regexp.MustCompile(`REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)`)
	dumpOp       = regexp.MustCompile(`^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)`)
	ptxEntry     = regexp.MustCompile(`\.entry (\w+)\(`)
	ptxBound     = regexp.MustCompile(`\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?`)
)

// inspect disassembles a fatbin.
func (t tools) inspect(s *source, fatbin string) ([]usage, error) {
	var text [3]string
	for i, flag := range []string{"-res-usage", "-sass", "-ptx"} {
		var err error
		if text[i], err = t.dump(flag, fatbin); err != nil {
			return nil, err
		}
	}
	list, err := readUsage(text[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	for i := range list {
		u := &list[i]
		for _, e := range s.entries {
			if e.name == u.Kernel && e.contract != nil {
				u.Ops = kinds(e.contract, u.Kernel, u.Arch)
			}
		}
		if u.Ops == nil {
			return nil, fmt.Errorf("%s: the fatbin holds %s, which is no entry point of the source", s.file, u.Kernel)
		}
	}
	countOps(list, text[1])
	for i := range list {
		maps.DeleteFunc(list[i].Ops, func(k string, n int) bool { return n == 0 && slices.Contains(interesting, k) })
	}
	bounds := readBounds(text[2])
	for i := range list {
		list[i].Threads = bounds[list[i].Kernel]
		for _, e := range s.entries { // without PTX the source says it
			if e.name == list[i].Kernel && list[i].Threads == 0 {
				list[i].Threads = e.threads
			}
		}
	}
	if want := len(s.entries) * len(s.arches); len(list) != want {
		return nil, fmt.Errorf("%s: the fatbin holds %d kernels, want %d: %d entry points on %d architectures", s.file, len(list), want, len(s.entries), len(s.arches))
	}
	slices.SortStableFunc(list, func(a, b usage) int {
		if a.Kernel != b.Kernel {
			return strings.Compare(a.Kernel, b.Kernel)
		}
		return slices.Index(s.arches, a.Arch) - slices.Index(s.arches, b.Arch)
	})
	return list, nil
}

// kinds are the instructions to count in a kernel, all at 0.
func kinds(c *contract, kernel, arch string) map[string]int {
	ops := map[string]int{}
	for _, k := range interesting {
		ops[k] = 0
	}
	for _, k := range c.subjects(kernel, arch) {
		if opcode.MatchString(k) {
			ops[k] = 0
		}
	}
	return ops
}

// readUsage reads `cuobjdump -res-usage`.
func readUsage(text string) ([]usage, error) {
	var list []usage
	arch, kernel := "", ""
	for line := range strings.Lines(text) {
		if m := dumpArch.FindStringSubmatch(line); m != nil {
			arch = m[1]
		}
		if m := dumpFunction.FindStringSubmatch(line); m != nil {
			kernel = m[1]
		}
		m := dumpUsage.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if m[2] != "0" || m[4] != "0" {
			return nil, fmt.Errorf("%s on %s uses %s bytes of stack and %s of local memory", kernel, arch, m[2], m[4])
		}
		regs, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		shared, err := strconv.Atoi(m[3])
		if err != nil {
			return nil, err
		}
		if arch != "sm_80" { // from sm_90 on the figure includes the system's own part, unless the kernel has none
			shared = max(0, shared-sharedReserved)
		}
		list = append(list, usage{Kernel: kernel, Arch: arch, Regs: regs, Shared: shared})
	}
	return list, nil
}

// countOps reads `cuobjdump -sass` and counts each kernel's instructions.
func countOps(list []usage, text string) {
	var now *usage
	arch := ""
	for line := range strings.Lines(text) {
		if m := dumpArch.FindStringSubmatch(line); m != nil {
			arch, now = m[1], nil
		}
		if m := dumpFunction.FindStringSubmatch(line); m != nil {
			now = nil
			for i := range list {
				if list[i].Kernel == m[1] && list[i].Arch == arch {
					now = &list[i]
				}
			}
		}
		m := dumpOp.FindStringSubmatch(line)
		if m == nil || now == nil || m[1] == "NOP" {
			continue
		}
		now.Instructions++
		for k := range now.Ops {
			if matches(k, m[1]) {
				now.Ops[k]++
			}
		}
	}
}

// readBounds reads the launch bounds out of `cuobjdump -ptx`.
func readBounds(text string) map[string]int {
	bounds := map[string]int{}
	kernel := ""
	for line := range strings.Lines(text) {
		if m := ptxEntry.FindStringSubmatch(line); m != nil {
			kernel = m[1]
		}
		if m := ptxBound.FindStringSubmatch(line); m != nil {
			n := 1
			for _, d := range m[1:] {
				if v, err := strconv.Atoi(d); err == nil {
					n *= v
				}
			}
			bounds[kernel] = n
		}
	}
	return bounds
}
