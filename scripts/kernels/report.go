package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// line is what the report says of one kernel on one architecture.
type line struct {
	usage
	block, total int // threads, and bytes of shared memory, of the launch
	occupancy    float64
	violations   []string
}

// report prints what each kernel takes and fails when an expectation is not met.
func (h *house) report(quiet, fresh bool) error {
	all, err := h.load()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		r, err := h.readRecord(s.stem)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s: not compiled yet; run make kernels", s.file)
		}
		if err == nil && fresh {
			err = h.drift(s, r)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lines, err := judge(s, r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !quiet {
			printLines(s, lines)
		}
		for _, l := range lines {
			for _, v := range l.violations {
				errs = append(errs, errors.New(v))
			}
		}
	}
	return errors.Join(errs...)
}

// drift disassembles the fatbin again and compares with the record.
func (h *house) drift(s *source, r *record) error {
	t := h.findTools()
	if t.cuobjdump == "" {
		return errors.New(t.why)
	}
	kernels, err := t.inspect(s, h.fatbin(s.stem))
	if err != nil {
		return err
	}
	again := *r
	again.Kernels = kernels
	if string(again.encode()) != string(r.encode()) {
		return fmt.Errorf("kernels/bin/%s.json is not what the disassembler says of %s.fatbin; run make kernels", s.stem, s.stem)
	}
	return nil
}

// judge holds the record against the contracts.
func judge(s *source, r *record) ([]line, error) {
	recorded := map[string]usage{}
	for _, u := range r.Kernels {
		recorded[u.Kernel+" "+u.Arch] = u
	}
	var list []line
	for _, e := range s.entries {
		for _, a := range s.arches {
			u, ok := recorded[e.name+" "+a]
			if !ok {
				return nil, fmt.Errorf("kernels/bin/%s.json: nothing of %s on %s; run make kernels", s.stem, e.name, a)
			}
			l, err := judgeOne(s, e, u)
			if err != nil {
				return nil, err
			}
			list = append(list, l)
		}
	}
	return list, nil
}

func judgeOne(s *source, e *entry, u usage) (line, error) {
	c := e.contract
	l := line{usage: u}
	violated := func(at int, format string, args ...any) {
		l.violations = append(l.violations, fmt.Sprintf("%s:%d: %s on %s: %s", s.file, at, e.name, u.Arch, fmt.Sprintf(format, args...)))
	}
	l.block, _ = c.setting(e.name, u.Arch, "block", c.block, 0)
	if l.block == 0 {
		l.block = u.Threads
	}
	if l.block > u.Threads {
		violated(c.fields["launch"].line, "the launch has %d threads a block, the launch bound is %d", l.block, u.Threads)
	}
	dynamic, _ := c.setting(e.name, u.Arch, "dynamic", c.shared, -1)
	l.total = u.Shared + dynamic
	l.occupancy = occupancy(u.Arch, l.block, u.Regs, l.total)
	for _, subject := range c.subjects(e.name, u.Arch) {
		var v float64
		switch subject {
		case "regs":
			v = float64(u.Regs)
		case "shared":
			v = float64(l.total)
		case "occupancy":
			v = l.occupancy
		case "instructions":
			v = float64(u.Instructions)
		default:
			n, counted := u.Ops[subject]
			if !counted && !slices.Contains(interesting, subject) {
				return l, fmt.Errorf("kernels/bin/%s.json: %s was not counted; run make kernels", s.stem, subject)
			}
			v = float64(n)
		}
		for _, r := range c.rulesFor(e.name, u.Arch, subject) {
			if !r.holds(v) {
				violated(r.line, "%s is %s; the contract expects %s", subject, short(v), r)
			}
		}
	}
	return l, nil
}

func short(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func printLines(s *source, lines []line) {
	fmt.Printf("%s\n", s.file)
	for _, l := range lines {
		fmt.Printf("  %-28s %-7s %3d regs %6d B shared %4d threads  occupancy %5.1f %%  %5d instructions  %s\n",
			l.Kernel, l.Arch, l.Regs, l.total, l.block, l.occupancy, l.Instructions, mix(l.usage))
	}
}

// mix lists the counts that tell something, in a fixed order.
func mix(u usage) string {
	var list []string
	for _, k := range []string{"HMMA", "HGMMA", "LDSM", "LDGSTS", "LDG", "LDG.E.128", "STG", "STG.E.128", "LDS", "STS", "SHFL", "BAR", "FFMA", "DFMA", "HFMA2", "MUFU", "RED", "REDG", "ATOM", "ATOMG", "ATOMS"} {
		if n := u.Ops[k]; n > 0 {
			list = append(list, fmt.Sprintf("%s %d", k, n))
		}
	}
	return strings.Join(list, ", ")
}
