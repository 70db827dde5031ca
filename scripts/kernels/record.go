package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// record is kernels/bin/X.json: what went into X.fatbin, and what is in it.
type record struct {
	Source   string  `json:"source"`   // hash of the .cu, the headers that it includes, the compiler's version and its flags
	Compiler string  `json:"compiler"` // version of nvcc
	Fatbin   string  `json:"fatbin"`   // hash of X.fatbin
	Size     int     `json:"size"`     // bytes of X.fatbin
	Kernels  []usage `json:"kernels"`
}

// usage is what one kernel takes on one architecture.
type usage struct {
	Kernel       string         `json:"kernel"`
	Arch         string         `json:"arch"`
	Regs         int            `json:"regs"`
	Shared       int            `json:"shared"`  // static shared memory, without the system's own
	Threads      int            `json:"threads"` // the launch bound
	Instructions int            `json:"instructions"`
	Ops          map[string]int `json:"ops"` // the kinds of interest that occur, and those that the contract names
}

func (h *house) fatbin(stem string) string { return filepath.Join(h.bin, stem+".fatbin") }
func (h *house) record(stem string) string { return filepath.Join(h.bin, stem+".json") }

func (h *house) readRecord(stem string) (*record, error) {
	b, err := os.ReadFile(h.record(stem))
	if err != nil {
		return nil, err
	}
	var r record
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("kernels/bin/%s.json: %w; make kernels writes it anew", stem, err)
	}
	return &r, nil
}

// encode writes one line per kernel and architecture, so that a change is one line of a diff.
func (r *record) encode() []byte {
	head := *r
	head.Kernels = nil
	b, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	var out bytes.Buffer
	out.Write(bytes.TrimSuffix(b, []byte("null\n}")))
	out.WriteString("[")
	for i, k := range r.Kernels {
		line, err := json.Marshal(k)
		if err != nil {
			panic(err)
		}
		if i > 0 {
			out.WriteString(",")
		}
		out.WriteString("\n    ")
		out.Write(line)
	}
	out.WriteString("\n  ]\n}\n")
	return out.Bytes()
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sourceHash covers all that a compilation depends on; a changed comment compiles nothing anew.
func (h *house) sourceHash(s *source, version string) (string, error) {
	names := []string{s.stem + ".cu"}
	for i := 0; i < len(names); i++ {
		b, err := os.ReadFile(filepath.Join(h.dir, names[i]))
		if err != nil {
			return "", err
		}
		var ignored problems
		for _, inc := range includes(names[i], blankComments(string(b)), &ignored) {
			// host.h stands for the machine when there is no nvcc; what it includes is not compiled here.
			if inc != "host.h" && !slices.Contains(names, inc) && exists(filepath.Join(h.dir, inc)) {
				names = append(names, inc)
			}
		}
	}
	slices.Sort(names)
	var all bytes.Buffer
	fmt.Fprintf(&all, "nvcc %s\n%s\n", version, strings.Join(flags(s), " "))
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(h.dir, n))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%s %s\n", n, hash([]byte(code(string(b)))))
	}
	return hash(all.Bytes()), nil
}

// code is what the compiler makes of a text: no comments, no indentation, no empty lines.
func code(text string) string {
	var lines []string
	for l := range strings.Lines(blankComments(text)) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// writeFile replaces a file in one step.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o666); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
