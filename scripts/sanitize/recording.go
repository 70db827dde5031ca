package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// recording is the head of a recorded launch; kernels/hostrecord.h has the format.
type recording struct {
	path, kernel, class string
	microseconds        int
}

func readRecording(path string) (*recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &recording{path: path, microseconds: -1}
	lines := bufio.NewScanner(f)
	if !lines.Scan() || lines.Text() != "fidlab launch 1" {
		return nil, fmt.Errorf("%s: not a recording", path)
	}
	for lines.Scan() && lines.Text() != "data" && r.microseconds < 0 {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "kernel":
			r.kernel = rest
		case "class":
			r.class = rest
		case "microseconds":
			if _, err := fmt.Sscan(rest, &r.microseconds); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
			}
		}
	}
	if r.kernel == "" || r.microseconds < 0 {
		return nil, fmt.Errorf("%s: the head is not complete", path)
	}
	return r, lines.Err()
}

// readRecordings lists a folder's recordings by kernel: one of each class, the quick ones first.
func readRecordings(dir string) (map[string][]*recording, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.rec"))
	if err != nil {
		return nil, err
	}
	best := map[string]*recording{}
	for _, f := range files {
		r, err := readRecording(f)
		if err != nil {
			return nil, err
		}
		key := r.kernel + " " + r.class
		if old := best[key]; old == nil || r.microseconds < old.microseconds {
			best[key] = r
		}
	}
	all := map[string][]*recording{}
	for _, r := range best {
		all[r.kernel] = append(all[r.kernel], r)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b *recording) int {
			return cmp.Or(cmp.Compare(a.microseconds, b.microseconds), cmp.Compare(a.class, b.class))
		})
	}
	return all, nil
}

// choose takes at most n recordings of a kernel whose launches together took at
// most budget microseconds, spread over the list; the quickest one always.
func choose(list []*recording, n, budget int) []*recording {
	var chosen []*recording
	fits := 0
	for ; fits < len(list) && list[fits].microseconds <= budget; fits++ {
	}
	if fits == 0 {
		return list[:min(1, len(list))]
	}
	n = min(n, fits)
	for i := range n {
		r := list[i*fits/n]
		if budget -= r.microseconds; budget < 0 && i > 0 {
			break
		}
		chosen = append(chosen, r)
	}
	return chosen
}

// record runs the tests of packages on the host device and has launches written into dir.
func record(dir string, packages []string, test string, verbose io.Writer) error {
	args := append([]string{"test", "-tags", "native hostdev", "-count=1", "-run", test}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "FIDLAB_HOST_RECORD="+dir, "FIDLAB_HOST_ORDER=0")
	cmd.Stdout, cmd.Stderr = verbose, verbose
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w; the tests must pass before their launches are worth a recording", strings.Join(args, " "), err)
	}
	return nil
}

// testsOnDevice lists the packages whose tests run on the host device.
func testsOnDevice() ([]string, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,TestImports,XTestImports,Module", "-tags", "native hostdev", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var list []string
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct {
			ImportPath                string
			TestImports, XTestImports []string
			Module                    struct{ Path string }
		}
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		if slices.Contains(append(p.TestImports, p.XTestImports...), p.Module.Path+"/internal/oracle/device") {
			list = append(list, p.ImportPath)
		}
	}
	return list, nil
}
