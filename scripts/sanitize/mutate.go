package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutation is one mistake put into a kernel, and the detector that must find it:
//
//	result     order 0: the outputs are not the recording's (NaN, mostly)
//	order      right in order 0, and not in order 1 or 7
//	asan       AddressSanitizer or UndefinedBehaviorSanitizer
//	tsan       ThreadSanitizer
//	scheduler  the host build ends the process: a deadlock, a divergent barrier
type mutation struct {
	name     string
	kind     string // of mistake
	file     string // of kernels/
	old, new string // old is in the file exactly once
	kernels  string // a regexp: the kernels whose recordings show it
	detector string
	test     string // quick ones: a regexp of the tests in ops that launch these kernels
}

// ways are the replays that a detector needs.
func (m *mutation) ways() (*flavour, []string) {
	switch m.detector {
	case "asan":
		return asan, []string{"0"}
	case "tsan":
		return tsan, []string{"0"}
	case "order":
		return plain, []string{"0", "1", "7"}
	}
	return plain, []string{"0"}
}

// mutate tries the mutations that match and returns how many were not found by their detector.
func (r *runner) mutate(which *regexp.Regexp, kernels []*kernel, recordings map[string][]*recording, work string) (int, error) {
	missed := 0
	fmt.Printf("\n%-28s %-24s %-26s %-10s found\n", "mutation", "mistake", "file", "detector")
	for i := range mutations {
		m := &mutations[i]
		if !which.MatchString(m.name) {
			continue
		}
		found, err := r.try(m, kernels, recordings, filepath.Join(work, "mutation-"+m.name))
		if err != nil {
			return 0, fmt.Errorf("mutation %s: %w", m.name, err)
		}
		verdict := "yes"
		if !found {
			verdict = "NO"
			missed++
		}
		fmt.Printf("%-28s %-24s %-26s %-10s %s\n", m.name, m.kind, m.file, m.detector, verdict)
	}
	return missed, nil
}

// try puts the mistake into a copy of the kernels and tells whether its detector
// finds it, after it has found nothing in the kernels as they are.
func (r *runner) try(m *mutation, kernels []*kernel, recordings map[string][]*recording, dir string) (bool, error) {
	pattern, err := regexp.Compile("^(" + m.kernels + ")$")
	if err != nil {
		return false, err
	}
	var hit []*kernel
	for _, k := range kernels {
		if pattern.MatchString(k.name) {
			hit = append(hit, k)
		}
	}
	chosen := map[*kernel][]*recording{}
	for _, k := range hit {
		if list := choose(recordings[k.name], columnOf(m.detector).count, columnOf(m.detector).budget); len(list) > 0 {
			chosen[k] = list
		}
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no recording of a kernel that matches %q", m.kernels)
	}
	if err := m.apply(filepath.Join(r.root, "kernels"), dir); err != nil {
		return false, err
	}
	fl, orders := m.ways()
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	if err := r.program(fl, filepath.Join(r.root, "kernels"), units(hit), right); err != nil {
		return false, err
	}
	if err := r.program(fl, dir, units(hit), wrong); err != nil {
		return false, err
	}
	for k, list := range chosen {
		for _, order := range orders {
			loose := !k.repro && order != "0"
			before, err := r.replay(right, order, loose, list)
			if err != nil {
				return false, err
			}
			for _, o := range before {
				if o.finding != "" {
					return false, fmt.Errorf("%s is not right without it: %s: %s", k.name, o.finding, shorten(o.text, false))
				}
			}
			after, err := r.replay(wrong, order, loose, list)
			if err != nil {
				return false, err
			}
			hits := slices.ContainsFunc(after, func(o outcome) bool {
				return o.finding == m.detector || m.detector == "order" && o.finding == "result"
			})
			if m.detector == "order" && order == "0" && hits {
				return false, fmt.Errorf("the result is wrong in order 0 already: the detector is \"result\"")
			}
			if hits {
				return true, nil
			}
		}
	}
	return false, nil
}

func columnOf(detector string) column {
	for _, c := range columns {
		if c.name == detector {
			return c
		}
	}
	return columns[0]
}

// apply copies the kernels into dir, with the mistake.
func (m *mutation) apply(from, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	found := false
	for _, pattern := range []string{"*.h", "*.cu", "zhost_*.cc"} {
		files, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			text := string(b)
			if filepath.Base(f) == m.file {
				if n := strings.Count(text, m.old); n != 1 {
					return fmt.Errorf("%s holds %q %d times; want once: bring the table up to date", m.file, m.old, n)
				}
				text, found = strings.Replace(text, m.old, m.new, 1), true
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("there is no kernels/%s", m.file)
	}
	return nil
}
