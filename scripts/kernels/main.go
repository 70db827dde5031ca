package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// house is the folders that the verbs work in.
type house struct {
	root string // the module's root
	dir  string // the kernels' folder
	bin  string // the compiled kernels' folder
	docs string // the generated page
}

func newHouse(root string) *house {
	dir := filepath.Join(root, "kernels")
	return &house{root: root, dir: dir, bin: filepath.Join(dir, "bin"), docs: filepath.Join(root, "docs", "KERNELS.md")}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", strings.ReplaceAll(err.Error(), "\n", "\nkernels: "))
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("want a verb: build, check, generate, report, doc or lines")
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	h := newHouse(root)
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "build":
		force := fs.Bool("force", false, "compile every file, changed or not")
		jobs := fs.Int("j", 2, "compilations at a time")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return h.build(*force, *jobs, fs.Args())
	case "check":
		rebuild := fs.Bool("rebuild", false, "also compile everything into a temporary folder and compare the bytes")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return h.check(*rebuild)
	case "generate", "doc":
		only := fs.Bool("check", false, "write nothing; fail where a file is stale")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		if args[0] == "doc" {
			return h.doc(*only)
		}
		return h.generate(*only)
	case "lines":
		if len(args) != 2 {
			return errors.New("lines wants a folder")
		}
		return h.lines(args[1])
	case "report":
		quiet := fs.Bool("q", false, "print violations only")
		fresh := fs.Bool("fresh", false, "disassemble anew and compare with what is recorded")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return h.report(*quiet, *fresh)
	}
	return fmt.Errorf("%q is no verb; want build, check, generate, report, doc or lines", args[0])
}

// moduleRoot is the folder of go.mod, here or above.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s: no go.mod here or above", dir)
		}
	}
}
