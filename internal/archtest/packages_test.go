package archtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fidlab/fidlab"

// pkg is what `go list -json` says of one package.
type pkg struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	CgoFiles     []string
}

// rel is the package's path below the module, "." for its root.
func (p pkg) rel() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// flavours are the build flavours whose import graphs are checked.
var flavours = []struct {
	name, tags, cgo string
}{
	{"plain", "", "0"},
	{"native", "native", "1"},
	{"hostdev", "native hostdev", "1"},
}

func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func list(t *testing.T, tags, cgo string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,CgoFiles", "-tags", tags, "./...")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// rule is a line of layers.txt or libraries.txt.
type rule struct {
	row     int
	pattern string
	extra   []string
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func table(t *testing.T, file string, row bool) []rule {
	t.Helper()
	f, err := os.Open(filepath.Join(root(t), file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []rule
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(strings.SplitN(sc.Text(), "#", 2)[0])
		if len(fields) == 0 {
			continue
		}
		var r rule
		if row {
			if r.row, err = strconv.Atoi(fields[0]); err != nil {
				t.Fatalf("%s: %q: %v", file, sc.Text(), err)
			}
			fields = fields[1:]
		}
		r.pattern = fields[0]
		if len(fields) > 1 {
			if fields[1] != "->" {
				t.Fatalf("%s: %q: want -> after the name", file, sc.Text())
			}
			r.extra = fields[2:]
		}
		rules = append(rules, r)
	}
	return rules
}

func find(rules []rule, name string) (rule, bool) {
	for _, r := range rules {
		if match(r.pattern, name) {
			return r, true
		}
	}
	return rule{}, false
}
