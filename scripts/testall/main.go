// Command testall runs the project's whole test suite and ends with one line
// that counts passed, failed and skipped tests, skipped ones named above it.
//
// With -golden it runs the golden tests alone, with -fuzz every fuzz target.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

// maxPureSkips is how many slow tests may skip in the flavour without cgo.
const maxPureSkips = 10

// hostTags builds the tests whose GPU is the CPU: packages that launch kernels, and those of them whose own locking
// the race detector is to see.
const hostTags = "native hostdev"

var (
	hostPackages = []string{"./cuda", "./kernels", "./gpu", "./ops", "./ops/netplan", "./sampler", "./fid", "./scripts/sanitize"}
	racePackages = []string{"./cuda", "./gpu"}
)

type suite struct {
	passed, failed int
	skips          map[string][]string // flavour -> tests
	broken         []string            // steps that failed
}

func main() {
	golden := flag.Bool("golden", false, "run the golden tests only")
	fuzz := flag.Duration("fuzz", 0, "run every fuzz target for this `time`")
	flag.Parse()
	s := &suite{skips: map[string][]string{}}
	native := nativeHere()
	switch {
	case *fuzz > 0:
		s.fuzzAll(*fuzz)
	case *golden:
		s.goldenTests(native)
	default:
		s.everything(native)
	}
	s.finish()
}

// nativeHere reads what scripts/setup.sh found.
func nativeHere() bool {
	b, err := os.ReadFile(".setup")
	return err == nil && strings.Contains(string(b), "native: yes")
}

func (s *suite) everything(native bool) {
	s.step("vet", []string{"CGO_ENABLED=0"}, "go", "vet", "./...")
	s.step("staticcheck", []string{"CGO_ENABLED=0"}, "go", "tool", "-modfile=tools/go.mod", "staticcheck", "./...")
	if native {
		s.step("vet native", nil, "go", "vet", "-tags", "native", "./...")
		s.step("staticcheck native", nil, "go", "tool", "-modfile=tools/go.mod", "staticcheck", "-tags", "native", "./...")
		s.step("vet hostdev", nil, append([]string{"go", "vet", "-tags", hostTags}, hostPackages...)...)
		for _, verb := range [][]string{{"check"}, {"generate", "-check"}, {"report", "-q"}, {"doc", "-check"}} {
			s.step("kernels "+verb[0], []string{"CGO_ENABLED=0"}, append([]string{"go", "run", "./scripts/kernels"}, verb...)...)
		}
	}
	for _, target := range []string{"darwin/arm64", "linux/arm64", "windows/amd64"} {
		goos, arch, _ := strings.Cut(target, "/")
		s.step("build "+target, []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + arch}, "go", "build", "-o", os.DevNull, "./cmd/fidlab")
	}
	if native {
		s.test("native", nil, "-tags", "native", "-shuffle=on", "./...")
		// The kernels, compiled by g++, through the launch path that a GPU has.
		s.test("hostdev", nil, append([]string{"-tags", hostTags, "-shuffle=on"}, hostPackages...)...)
		s.test("hostdev networks", nil, "-tags", hostTags, "-run", "GoldenOnGPU|DINOv2Golden|CLIPGolden", "./fid/extract")
		s.test("hostdev command", nil, "-tags", hostTags, "-run", "^TestScript$/^(samplegpu|fidgpu)$", "./internal/cli")
		s.test("hostdev race", nil, append([]string{"-tags", hostTags, "-race", "-short", "-skip", "Alloc"}, racePackages...)...)
		s.step("gpu rehearsal", nil, "scripts/gpu/rehearse.sh")
		// Under the race detector sync.Pool drops what it holds at random, so nothing is free of allocations there.
		s.test("race", nil, "-tags", "native", "-race", "-short", "-skip", "Alloc", "./internal/cpu/...", "./imageio", "./fid", "./sampler")
	} else {
		fmt.Println("the native flavour is not tested: setup did not find its headers")
		s.broken = append(s.broken, "native flavour not tested")
	}
	s.test("pure", []string{"CGO_ENABLED=0"}, "-shuffle=on", "./...")
	s.beam(native)
	if n := len(s.skips["pure"]) - len(s.skips["native"]); n > maxPureSkips {
		s.broken = append(s.broken, fmt.Sprintf("%d tests skip without cgo; at most %d may", n, maxPureSkips))
	}
}

// beam tests the module for Apache Beam, which the ./... of this one does not reach. One flavour: the SDK takes minutes to compile the first time.
func (s *suite) beam(native bool) {
	env, tags := []string{"CGO_ENABLED=0"}, "-tags="
	if native {
		env, tags = nil, "-tags=native"
	}
	s.step("vet beam", env, "go", "-C", "beam", "vet", tags, "./...")
	s.step("staticcheck beam", env, "go", "-C", "beam", "tool", "-modfile=../tools/go.mod", "staticcheck", tags, "./...")
	s.test("beam", env, "-C", "beam", tags, "-shuffle=on", "./...")
}

func (s *suite) goldenTests(native bool) {
	if native {
		s.test("native", nil, "-tags", "native", "-count=1", "-run", "Golden", "./...")
		return
	}
	s.test("pure", []string{"CGO_ENABLED=0"}, "-count=1", "-run", "Golden", "./...")
}

// step runs a command whose output matters only when it fails.
func (s *suite) step(name string, env []string, argv ...string) {
	start := time.Now()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.broken = append(s.broken, name)
		fmt.Printf("FAIL  %s: %v\n%s\n", name, err, out)
		return
	}
	fmt.Printf("ok    %s (%.0f s)\n", name, time.Since(start).Seconds())
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output, FailedBuild string
	Elapsed                                    float64
}

// test runs `go test -json` and prints a line per package, and the output of what failed.
func (s *suite) test(flavour string, env []string, args ...string) {
	fmt.Printf("==    go test, %s\n", flavour)
	argv := []string{"test", "-json", "-timeout", "30m"}
	if len(args) > 1 && args[0] == "-C" { // which comes first
		argv = []string{"-C", args[1], "test", "-json", "-timeout", "30m"}
		args = args[2:]
	}
	cmd := exec.Command("go", append(argv, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.broken = append(s.broken, flavour+": "+err.Error())
		return
	}
	output := map[string][]string{}
	sc := bufio.NewScanner(pipe)
	sc.Buffer(nil, 64<<20)
	failedTests := 0
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Println(sc.Text())
			continue
		}
		id := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[id] = append(output[id], e.Output)
		case "pass", "fail", "skip":
			failedTests += s.note(flavour, e, output[id])
			delete(output, id)
		}
	}
	err = cmd.Wait()
	if err != nil && failedTests == 0 {
		s.broken = append(s.broken, "go test "+flavour+": "+err.Error())
		for _, lines := range output {
			fmt.Print(strings.Join(lines, ""))
		}
	}
}

// note counts the end of a test or package and returns 1 for a failed test.
func (s *suite) note(flavour string, e event, output []string) int {
	short := strings.TrimPrefix(e.Package, "github.com/fidlab/fidlab/")
	if e.Test == "" {
		switch e.Action {
		case "pass":
			fmt.Printf("ok    %s (%.1f s)\n", short, e.Elapsed)
		case "fail":
			fmt.Printf("FAIL  %s (%.1f s)\n%s", short, e.Elapsed, strings.Join(output, ""))
		}
		return 0
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skips[flavour] = append(s.skips[flavour], short+"."+e.Test+": "+reason(output))
	case "fail":
		s.failed++
		fmt.Printf("FAIL  %s.%s\n%s", short, e.Test, strings.Join(output, ""))
		return 1
	}
	return 0
}

var skipLine = regexp.MustCompile(`^\s+\S+_test\.go:\d+: (.*)$`)

func reason(output []string) string {
	for _, l := range output {
		if m := skipLine.FindStringSubmatch(strings.TrimRight(l, "\n")); m != nil {
			return m[1]
		}
	}
	return "no reason given"
}

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzzAll runs the fuzz targets one by one: `go test -fuzz` takes one at a time.
func (s *suite) fuzzAll(d time.Duration) {
	files, err := exec.Command("git", "ls-files", "*_test.go").Output()
	if err != nil {
		s.broken = append(s.broken, "git ls-files: "+err.Error())
		return
	}
	for _, f := range strings.Fields(string(files)) {
		b, err := os.ReadFile(f)
		if err != nil {
			s.broken = append(s.broken, err.Error())
			continue
		}
		for _, m := range fuzzFunc.FindAllSubmatch(b, -1) {
			name := string(m[1])
			before := len(s.broken)
			s.step("fuzz "+name, []string{"CGO_ENABLED=0"}, "go", "test", "-run", "^$", "-fuzz", "^"+name+"$", "-fuzztime", d.String(), "./"+filepath.Dir(f))
			if len(s.broken) == before {
				s.passed++
			} else {
				s.failed++
			}
		}
	}
}

func (s *suite) finish() {
	total := 0
	flavours := make([]string, 0, len(s.skips))
	for f := range s.skips {
		flavours = append(flavours, f)
	}
	sort.Strings(flavours)
	for _, f := range flavours {
		sort.Strings(s.skips[f])
		for _, t := range s.skips[f] {
			fmt.Printf("skip  %s: %s\n", f, t)
		}
		total += len(s.skips[f])
	}
	for _, b := range s.broken {
		fmt.Println("FAIL  step:", b)
	}
	failed := s.failed
	if failed == 0 {
		failed = len(s.broken)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", s.passed, failed, total)
	if failed > 0 || s.passed == 0 {
		os.Exit(1)
	}
}
