package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// maxTotal is how many bytes the compiled kernels may take in the repository and in each binary.
const maxTotal = 8 << 20

// build compiles what changed, or all, or the named families.
func (h *house) build(force bool, jobs int, only []string) error {
	t := h.findTools()
	if t.why != "" {
		return errors.New(t.why)
	}
	if t.version != pinned {
		fmt.Fprintf(os.Stderr, "kernels: this is nvcc %s; what is committed comes from %s, so every file changes\n", t.version, pinned)
	}
	all, err := h.load()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	errs := make([]error, len(all))
	parallel(jobs, len(all), func(i int) {
		if s := all[i]; len(only) == 0 || slices.Contains(only, s.stem) {
			errs[i] = h.buildOne(t, s, tmp, force)
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, o := range h.orphans(all) {
		fmt.Printf("removed  kernels/bin/%s\n", o)
		if err := os.Remove(filepath.Join(h.bin, o)); err != nil {
			return err
		}
	}
	return h.sizes(all)
}

func parallel(jobs, n int, do func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(jobs, 1))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			do(i)
			<-slots
		})
	}
	wg.Wait()
}

func (h *house) buildOne(t tools, s *source, tmp string, force bool) error {
	want, err := h.sourceHash(s, t.version)
	if err != nil {
		return err
	}
	if !force && h.fresh(s, want) == nil {
		return nil
	}
	out := filepath.Join(tmp, s.stem+".fatbin")
	if err := h.compile(t, s, out); err != nil {
		return err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	kernels, err := t.inspect(s, out)
	if err != nil {
		return err
	}
	r := &record{Source: want, Compiler: t.version, Fatbin: hash(b), Size: len(b), Kernels: kernels}
	if err := writeFile(h.fatbin(s.stem), b); err != nil {
		return err
	}
	fmt.Printf("compiled %s\n", s.file)
	return writeFile(h.record(s.stem), r.encode())
}

// fresh says why the compiled file is not what the source would give, or nil.
func (h *house) fresh(s *source, want string) error {
	r, err := h.readRecord(s.stem)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: not compiled yet; run make kernels", s.file)
	}
	if err != nil {
		return err
	}
	if r.Source != want {
		return fmt.Errorf("%s: it or a header changed since kernels/bin/%s.fatbin was compiled; run make kernels", s.file, s.stem)
	}
	b, err := os.ReadFile(h.fatbin(s.stem))
	if err != nil {
		return fmt.Errorf("%s: %w; run make kernels", s.file, err)
	}
	if hash(b) != r.Fatbin {
		return fmt.Errorf("kernels/bin/%s.fatbin is not the one that kernels/bin/%s.json describes; run make kernels", s.stem, s.stem)
	}
	return nil
}

// orphans are files in kernels/bin whose source is gone.
func (h *house) orphans(all []*source) []string {
	var list []string
	entries, err := os.ReadDir(h.bin)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		stem, ext, _ := strings.Cut(e.Name(), ".")
		if ext != "fatbin" && ext != "json" {
			continue
		}
		if !slices.ContainsFunc(all, func(s *source) bool { return s.stem == stem }) {
			list = append(list, e.Name())
		}
	}
	return list
}

func (h *house) sizes(all []*source) error {
	total := 0
	for _, s := range all {
		r, err := h.readRecord(s.stem)
		if err != nil {
			return err
		}
		fmt.Printf("%8d  %s.fatbin, %d kernels\n", r.Size, s.stem, len(s.entries))
		total += r.Size
	}
	fmt.Printf("%8d  together, %.1f %% of the %d allowed\n", total, 100*float64(total)/maxTotal, maxTotal)
	if total > maxTotal {
		return fmt.Errorf("the compiled kernels take %d bytes; at most %d", total, maxTotal)
	}
	return nil
}

// check compares the compiled kernels with their sources: by hash, and on request byte for byte.
func (h *house) check(rebuild bool) error {
	all, err := h.load()
	if err != nil {
		return err
	}
	var errs []error
	total := 0
	for _, s := range all {
		want, err := h.sourceHash(s, pinned)
		if err == nil {
			err = h.fresh(s, want)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := h.readRecord(s.stem)
		if err != nil {
			return err
		}
		total += r.Size
	}
	for _, o := range h.orphans(all) {
		errs = append(errs, fmt.Errorf("kernels/bin/%s has no source; run make kernels", o))
	}
	if total > maxTotal {
		errs = append(errs, fmt.Errorf("the compiled kernels take %d bytes; at most %d", total, maxTotal))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d fatbins of %d bytes belong to their sources\n", len(all), total)
	if !rebuild {
		return nil
	}
	return h.rebuild(all)
}

// rebuild compiles everything into a temporary folder and compares the bytes.
func (h *house) rebuild(all []*source) error {
	t := h.findTools()
	switch {
	case t.why != "":
		fmt.Printf("skipped: not compiled again: %s\n", t.why)
		return nil
	case t.version != pinned:
		fmt.Printf("skipped: not compiled again: this is nvcc %s, what is committed comes from %s\n", t.version, pinned)
		return nil
	}
	tmp, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	errs := make([]error, len(all))
	parallel(2, len(all), func(i int) {
		s := all[i]
		out := filepath.Join(tmp, s.stem+".fatbin")
		if errs[i] = h.compile(t, s, out); errs[i] != nil {
			return
		}
		got, err := os.ReadFile(out)
		if err != nil {
			errs[i] = err
			return
		}
		if want, err := os.ReadFile(h.fatbin(s.stem)); err != nil || !bytes.Equal(got, want) {
			errs[i] = errors.Join(err, fmt.Errorf("%s: compiled again it gives other bytes than kernels/bin/%s.fatbin", s.file, s.stem))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d fatbins compiled again: the same bytes\n", len(all))
	return nil
}

// lines compiles everything with line numbers, which name the folder and so
// are not for the committed files, and writes an overlay that lets go build embed them instead.
func (h *house) lines(dir string) error {
	t := h.findTools()
	if t.nvcc == "" {
		return errors.New(t.why)
	}
	all, err := h.load()
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	errs := make([]error, len(all))
	replace := map[string]string{}
	for _, s := range all {
		replace[h.fatbin(s.stem)] = filepath.Join(dir, s.stem+".fatbin")
	}
	parallel(2, len(all), func(i int) {
		errs[i] = h.compile(t, all[i], replace[h.fatbin(all[i].stem)], "-lineinfo")
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "overlay.json"), b)
}
