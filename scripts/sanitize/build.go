package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// flavour is one way to compile the kernels.
type flavour struct {
	name   string
	kernel []string // flags of the kernels
	host   []string // flags of the scheduler, which no sanitizer sees
	link   []string
}

var (
	plain = &flavour{name: "plain", kernel: []string{"-O1", "-g1", "-ftrivial-auto-var-init=pattern"}}
	asan  = &flavour{
		name:   "asan",
		kernel: []string{"-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"},
		host:   []string{"-DHOST_ASAN"},
		link:   []string{"-fsanitize=address,undefined"},
	}
	tsan = &flavour{
		name:   "tsan",
		kernel: []string{"-O1", "-g", "-fsanitize=thread"},
		host:   []string{"-DHOST_TSAN"},
		link:   []string{"-fsanitize=thread"},
	}
	flavours = []*flavour{plain, asan, tsan}
)

// common are the flags of every file; host.h turns contraction off.
var common = []string{"-std=c++17", "-march=x86-64-v3", "-Wno-unknown-pragmas"}

// builder compiles what the replay programs consist of. Objects are kept by the
// hash of all that goes into them.
type builder struct {
	root    string // the module's
	cache   string
	version string // the compiler's
	slots   chan struct{}
}

func newBuilder(root string, jobs int) (*builder, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	b := &builder{root: root, cache: filepath.Join(dir, "fidlab", "sanitize"), slots: make(chan struct{}, jobs)}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	out, err := exec.Command(cxx(), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w; install g++", cxx(), err)
	}
	b.version = string(out)
	b.prune()
	return b, nil
}

func cxx() string {
	if c := os.Getenv("CXX"); c != "" {
		return c
	}
	return "g++"
}

// prune forgets objects that no build has used for two weeks.
func (b *builder) prune() {
	files, _ := filepath.Glob(filepath.Join(b.cache, "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && time.Since(info.ModTime()) > 14*24*time.Hour {
			_ = os.Remove(f) // another run may have been faster
		}
	}
}

// object compiles one file of the folder dir, or finds it compiled already.
// zhost_*.cc holds kernels; the others belong to the scheduler.
func (b *builder) object(fl *flavour, dir, file string) (string, error) {
	flags := slices.Concat(common, []string{"-I" + dir, "-c"})
	if strings.HasPrefix(file, "zhost_") {
		flags = slices.Concat(flags, fl.kernel)
	} else {
		flags = slices.Concat(flags, fl.host, []string{"-O2"})
	}
	path := file
	if !filepath.IsAbs(file) {
		path = filepath.Join(dir, file)
	}
	sum := sha256.New()
	fmt.Fprintln(sum, b.version, cxx(), fl.kernel, fl.host, common, file)
	if err := hashFiles(sum, path, dir, map[string]bool{}); err != nil {
		return "", err
	}
	object := filepath.Join(b.cache, fmt.Sprintf("%x.o", sum.Sum(nil)[:16]))
	if _, err := os.Stat(object); err == nil {
		now := time.Now()
		_ = os.Chtimes(object, now, now) // keeps it from being pruned; a failure costs a compilation later
		return object, nil
	}
	temporary := fmt.Sprintf("%s.%d", object, os.Getpid())
	if err := b.command(dir, cxx(), append(flags, "-o", temporary, path)...); err != nil {
		return "", fmt.Errorf("%s, %s: %w", filepath.Base(file), fl.name, err)
	}
	return object, os.Rename(temporary, object)
}

var includeLine = regexp.MustCompile(`(?m)^#include "(\S+)"`)

// hashFiles puts a file and the headers of the folder dir that it includes into sum.
func hashFiles(sum io.Writer, path, dir string, seen map[string]bool) error {
	if seen[path] {
		return nil
	}
	seen[path] = true
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintln(sum, filepath.Base(path), len(text))
	if _, err := sum.Write(text); err != nil {
		return err
	}
	for _, m := range includeLine.FindAllSubmatch(text, -1) {
		if err := hashFiles(sum, filepath.Join(dir, string(m[1])), dir, seen); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) command(dir, name string, args ...string) error {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out.String(), 3000))
	}
	return nil
}

// program links the replay program of the given zhost_*.cc files, those in dir, as out.
func (b *builder) program(fl *flavour, dir string, units []string, out string) error {
	files := slices.Concat(units, []string{"host.cc", "host_async.cc", "host_memory.cc", "host_switch.cc", "host_table.cc", "host_warp.cc", "host_wgmma.cc", filepath.Join(b.root, "scripts", "sanitize", "cc", "replay.cc")})
	objects := make([]string, len(files))
	errs := make([]error, len(files))
	var wait sync.WaitGroup
	for i, f := range files {
		wait.Go(func() {
			from := dir
			if !strings.HasPrefix(f, "zhost_") {
				from = filepath.Join(b.root, "kernels") // no mutation touches the scheduler
			}
			objects[i], errs[i] = b.object(fl, from, f)
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return b.command(dir, cxx(), slices.Concat(fl.link, objects, []string{"-o", out})...)
}

// tail is the end of a long text.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "..." + s[len(s)-n:]
}
