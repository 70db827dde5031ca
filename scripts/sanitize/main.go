package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

type options struct {
	only      *regexp.Regexp // kernels
	test      string         // tests to record, as for go test -run
	packages  []string
	keep      string // a folder with recordings, or for them
	mutations string // which ones, as a regular expression; "" for none
	verbose   bool
}

func main() {
	var o options
	only := flag.String("kernels", ".", "look at the kernels that match this `regexp`")
	flag.StringVar(&o.test, "run", ".", "record the tests that match this `regexp`")
	flag.StringVar(&o.keep, "recordings", "", "keep the recordings in this `folder`; those that are there are taken")
	flag.StringVar(&o.mutations, "mutations", "", "also check the detectors with the mutations that match this `regexp`")
	flag.BoolVar(&o.verbose, "v", false, "print every complaint in full")
	jobs := flag.Int("j", runtime.NumCPU(), "processes at a time")
	flag.Parse()
	o.packages = flag.Args()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = sanitize(&o, *jobs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sanitize:", err)
		os.Exit(1)
	}
}

// runner has what replays share.
type runner struct {
	*builder
	setarch string // the program that turns address randomisation off, once it proved necessary
}

func sanitize(o *options, jobs int) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	b, err := newBuilder(root, jobs)
	if err != nil {
		return err
	}
	r := &runner{builder: b}
	kernels, err := readKernels(filepath.Join(root, "kernels"))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "sanitize")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	start := time.Now()
	recordings, failed, err := r.recordings(o, work)
	if err != nil {
		return err
	}
	fmt.Printf("recordings: %.0f s\n", time.Since(start).Seconds())
	start = time.Now()
	findings, err := r.checkAll(o, kernels, recordings, work)
	if err != nil {
		return err
	}
	if failed != nil {
		fmt.Println(failed)
		findings++
	}
	fmt.Printf("replays: %.0f s\n", time.Since(start).Seconds())
	if o.mutations != "" {
		start = time.Now()
		missed, err := r.mutate(regexp.MustCompile(o.mutations), kernels, recordings, work)
		if err != nil {
			return err
		}
		fmt.Printf("mutations: %.0f s\n", time.Since(start).Seconds())
		findings += missed
	}
	if findings > 0 {
		return fmt.Errorf("%d findings", findings)
	}
	return nil
}

// recordings of the tests, made now or found in the folder that the user keeps.
// failed says that tests fail, so that what was recorded may be wrong itself.
func (r *runner) recordings(o *options, work string) (list map[string][]*recording, failed, err error) {
	dir := filepath.Join(work, "recordings")
	if o.keep != "" {
		dir = o.keep
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, nil, err
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if list, err = readRecordings(dir); err != nil || len(list) > 0 {
		return list, nil, err
	}
	packages := o.packages
	if len(packages) == 0 {
		if packages, err = testsOnDevice(); err != nil {
			return nil, nil, err
		}
	}
	failed = record(dir, packages, o.test, os.Stdout)
	list, err = readRecordings(dir)
	return list, failed, err
}

// column is one way of replaying.
type column struct {
	name    string
	flavour *flavour
	order   string
	count   int // recordings of a kernel, at most
	budget  int // microseconds that they took when recorded, at most
}

var columns = []column{
	{"order 0", plain, "0", 16, 3e6},
	{"order 1", plain, "1", 16, 3e6},
	{"order 7", plain, "7", 16, 3e6},
	{"asan", asan, "0", 12, 1e6},
	{"tsan", tsan, "0", 6, 5e4},
}

// checkAll replays every kernel in every way, prints the table and returns the number of findings.
func (r *runner) checkAll(o *options, kernels []*kernel, recordings map[string][]*recording, work string) (int, error) {
	kernels = slices.DeleteFunc(slices.Clone(kernels), func(k *kernel) bool { return !o.only.MatchString(k.name) })
	if len(kernels) == 0 {
		return 0, fmt.Errorf("no kernel matches %q", o.only)
	}
	programs := map[*flavour]string{}
	for _, fl := range flavours {
		programs[fl] = filepath.Join(work, "replay-"+fl.name)
		if err := r.program(fl, filepath.Join(r.root, "kernels"), units(kernels), programs[fl]); err != nil {
			return 0, err
		}
	}
	cells := make([][]string, len(kernels))
	complaints := make([][]string, len(kernels))
	errs := make([]error, len(kernels))
	done := make([]chan struct{}, len(kernels))
	for i, k := range kernels {
		done[i] = make(chan struct{})
		go func() {
			defer close(done[i])
			for _, c := range columns {
				chosen := choose(recordings[k.name], c.count, c.budget)
				outcomes, err := r.replay(programs[c.flavour], c.order, !k.repro && c.order != "0", chosen)
				if err != nil {
					errs[i] = err
					return
				}
				bad := slices.DeleteFunc(slices.Clone(outcomes), func(x outcome) bool { return x.finding == "" })
				cell := fmt.Sprint(len(outcomes))
				if len(bad) > 0 {
					cell = fmt.Sprintf("%d of %d BAD", len(bad), len(outcomes))
					complaints[i] = append(complaints[i], fmt.Sprintf("%s, %s: %s: %s", k.name, c.name, bad[0].finding, shorten(bad[0].text, o.verbose)))
				}
				cells[i] = append(cells[i], cell)
			}
		}()
	}
	findings := 0
	fmt.Printf("\n%-36s %7s", "kernel", "classes")
	for _, c := range columns {
		fmt.Printf(" %10s", c.name)
	}
	fmt.Println()
	for i, k := range kernels {
		<-done[i]
		switch {
		case errs[i] != nil:
			return 0, errs[i]
		case len(recordings[k.name]) == 0:
			complaints[i] = []string{k.name + ": no test launches it with so little that it can be recorded"}
		}
		fmt.Printf("%-36s %7d", k.name, len(recordings[k.name]))
		for _, c := range cells[i] {
			fmt.Printf(" %10s", c)
		}
		fmt.Println()
		findings += len(complaints[i])
	}
	for _, list := range complaints {
		for _, c := range list {
			fmt.Println(c)
		}
	}
	return findings, nil
}

// shorten keeps the first lines of a complaint, which name the place.
func shorten(text string, verbose bool) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if !verbose && len(lines) > 14 {
		lines = append(lines[:14], "(-v shows all)")
	}
	return strings.Join(lines, "\n    ")
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("%s: no go.mod in it or above", dir)
		}
		dir = filepath.Dir(dir)
	}
}

// kernel is an entry point.
type kernel struct {
	name, unit string // unit: the C++ file that includes its .cu file
	repro      bool   // its contract promises the same bits every time
}

var (
	exportCall = regexp.MustCompile(`(?m)^EXPORT\((\w+)\)`)
	kernelLine = regexp.MustCompile(`(?m)^// kernels  +(.*(?:\n//         +.*)*)`)
	irregular  = regexp.MustCompile(`(?m)^// repro  +no\b`)
)

// readKernels lists the entry points of all .cu files of a folder.
func readKernels(dir string) ([]*kernel, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.cu"))
	if err != nil {
		return nil, err
	}
	var all []*kernel
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		loose := map[string]bool{}
		for _, block := range strings.Split(string(text), "\n\n") { // a contract has no empty line in it
			names := kernelLine.FindStringSubmatch(block)
			if names == nil || !irregular.MatchString(block) {
				continue
			}
			for _, n := range strings.Fields(strings.ReplaceAll(names[1], "//", " ")) {
				loose[n] = true
			}
		}
		for _, m := range exportCall.FindAllStringSubmatch(string(text), -1) {
			all = append(all, &kernel{name: m[1], unit: "zhost_" + strings.TrimSuffix(filepath.Base(f), ".cu") + ".cc", repro: !loose[m[1]]})
		}
	}
	return all, nil
}

// units lists the files of kernels.
func units(kernels []*kernel) []string {
	var list []string
	for _, k := range kernels {
		list = append(list, k.unit)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
