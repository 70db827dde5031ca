package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// summary of the test programs that ran on a device.
type summary struct {
	Passed   int       `json:"passed"`
	Failed   int       `json:"failed"`
	Skipped  int       `json:"skipped"`
	OnDevice int       `json:"on_device"` // passed subtests that ran on the GPU
	Programs []program `json:"programs"`
}

// program is one log, X.log, and the exit status in X.rc.
type program struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"` // exit status as the shell saw it
	Passed   int      `json:"passed"`
	OnDevice int      `json:"on_device"`
	Failures []string `json:"failures,omitempty"`
	Skips    []string `json:"skips,omitempty"`
	Tail     string   `json:"tail,omitempty"` // the log's last lines, when the program ended badly
}

var testLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)

// onDevice tells whether a subtest ran on the GPU, or on the host device in its place.
func onDevice(name string) bool {
	parts := strings.Split(name, "/")
	return slices.Contains(parts, "cuda") || slices.Contains(parts, "host")
}

func readProgram(log string) (program, error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return program{}, err
	}
	rc, err := os.ReadFile(strings.TrimSuffix(log, ".log") + ".rc")
	if err != nil {
		return program{}, err
	}
	p := program{Name: strings.TrimSuffix(filepath.Base(log), ".log"), Status: strings.TrimSpace(string(rc))}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	for i, l := range lines {
		m := testLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		switch m[1] {
		case "PASS":
			p.Passed++
			if onDevice(m[2]) {
				p.OnDevice++
			}
		case "FAIL":
			p.Failures = append(p.Failures, m[2])
		case "SKIP":
			why := "no reason given"
			if i+1 < len(lines) && strings.Contains(lines[i+1], "_test.go:") {
				why = strings.TrimSpace(lines[i+1])
			}
			p.Skips = append(p.Skips, m[2]+": "+why)
		}
	}
	if p.Status != "0" {
		p.Tail = strings.Join(lines[max(0, len(lines)-40):], "\n")
	}
	return p, nil
}

// sumUp reads every log of the folder and writes what they say. It fails when a
// program failed or nothing ran on a device.
func sumUp(dir, jsonFile, mdFile string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	if len(logs) == 0 {
		return fmt.Errorf("%s: no logs", dir)
	}
	sort.Strings(logs)
	var s summary
	bad := 0
	for _, l := range logs {
		p, err := readProgram(l)
		if err != nil {
			return err
		}
		s.Programs = append(s.Programs, p)
		s.Passed += p.Passed
		s.Failed += len(p.Failures)
		s.Skipped += len(p.Skips)
		s.OnDevice += p.OnDevice
		if p.Status != "0" {
			bad++
		}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	text := s.markdown()
	fmt.Print(text)
	if jsonFile != "" {
		err = errors.Join(err, os.WriteFile(jsonFile, append(b, '\n'), 0o666))
	}
	if mdFile != "" {
		err = errors.Join(err, os.WriteFile(mdFile, []byte(text), 0o666))
	}
	if s.OnDevice == 0 {
		err = errors.Join(err, errors.New("no test ran on a device"))
	}
	if bad > 0 || s.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d programs and %d tests failed", bad, s.Failed))
	}
	return err
}

func (s *summary) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Tests on the device\n\n%d passed, %d of them on the device; %d failed, %d skipped.\n\n", s.Passed, s.OnDevice, s.Failed, s.Skipped)
	b.WriteString("| program | exit | passed | on the device | failed | skipped |\n|---|---:|---:|---:|---:|---:|\n")
	for _, p := range s.Programs {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d |\n", p.Name, p.Status, p.Passed, p.OnDevice, len(p.Failures), len(p.Skips))
	}
	for _, p := range s.Programs {
		for _, f := range p.Failures {
			fmt.Fprintf(&b, "\nFAIL %s %s\n", p.Name, f)
		}
		if p.Tail != "" {
			fmt.Fprintf(&b, "\n%s ended with %s:\n\n```\n%s\n```\n", p.Name, p.Status, p.Tail)
		}
	}
	for _, p := range s.Programs {
		for _, x := range p.Skips {
			fmt.Fprintf(&b, "\nskipped: %s %s", p.Name, x)
		}
	}
	return b.String() + "\n"
}
