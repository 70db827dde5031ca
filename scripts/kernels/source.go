package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// source is one .cu file.
type source struct {
	stem      string // the file's name without .cu; the module's name
	file      string // kernels/stem.cu, as complaints name it
	includes  []string
	entries   []*entry
	contracts []*contract
	arches    []string // that it is compiled for; PTX too where these are all
}

// whole tells whether the file is for every architecture.
func (s *source) whole() bool { return slices.Equal(s.arches, arches) }

// entry is one entry point, `extern "C" __global__`.
type entry struct {
	name     string
	line     int
	params   []param
	threads  int // of the launch bound, 0 where it is no plain number
	contract *contract
}

// param is one parameter: its name in C and its type for Go, "Ptr", "F32", ...
type param struct{ name, kind string }

// problems collects complaints of the form file:line: what.
type problems struct{ list []string }

func (p *problems) add(file string, line int, format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf("%s:%d: %s", file, line, fmt.Sprintf(format, args...)))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return errors.New(strings.Join(p.list, "\n"))
}

// load parses every .cu file of the folder and the rules that hold between them.
func (h *house) load() ([]*source, error) {
	files, err := filepath.Glob(filepath.Join(h.dir, "*.cu"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var all []*source
	var bad problems
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all = append(all, parse("kernels/"+filepath.Base(f), string(b), &bad))
	}
	h.checkHeaders(all, &bad)
	names := map[string]string{}
	for _, s := range all {
		for _, e := range s.entries {
			for _, n := range []string{e.name, goName(e.name)} {
				if first, taken := names[n]; taken {
					bad.add(s.file, e.line, "%s: this name is taken by %s", n, first)
				}
			}
			names[e.name] = fmt.Sprintf("%s:%d", s.file, e.line)
			names[goName(e.name)] = names[e.name]
		}
	}
	return all, bad.err()
}

// checkHeaders: a kernel's headers lie beside it and keep the rules of a kernel file.
func (h *house) checkHeaders(all []*source, bad *problems) {
	seen := map[string]bool{"device.h": true, "host.h": true}
	var visit func(from, name string)
	visit = func(from, name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		b, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			bad.add(from, 1, "includes %q, which is not in kernels/", name)
			return
		}
		file := "kernels/" + name
		code := plain(file, string(b), bad)
		if at := strings.Index(code, "__global__"); at >= 0 {
			bad.add(file, lineOf(code, at), "an entry point in a header; put it into a .cu file")
		}
		for _, inc := range includes(file, code, bad) {
			visit(file, inc)
		}
	}
	for _, s := range all {
		for _, inc := range s.includes {
			visit(s.file, inc)
		}
	}
}

// parse reads one .cu file.
func parse(file, text string, bad *problems) *source {
	s := &source{stem: strings.TrimSuffix(filepath.Base(file), ".cu"), file: file}
	if !kernelName.MatchString(s.stem) || strings.HasSuffix(s.stem, "_test") {
		bad.add(file, 1, "the name %q is not lower-case words with _ between them, or ends in _test", s.stem)
	}
	code := plain(file, text, bad)
	s.includes = includes(file, code, bad)
	if !slices.Contains(s.includes, "device.h") && len(s.includes) == 0 {
		bad.add(file, 1, `does not include "device.h"`)
	}
	s.contracts = contracts(file, text, bad)
	s.arches = arches
	for i, c := range s.contracts {
		if i > 0 && !slices.Equal(c.arches, s.arches) {
			bad.add(file, c.line, "the contract of %s is for %s, the one above it for %s; a file is compiled for one list", c.name, strings.Join(c.arches, " "), strings.Join(s.arches, " "))
		}
		s.arches = c.arches
	}
	code = withoutDirectives(file, code, bad)
	s.entries = entries(file, exportCall.ReplaceAllStringFunc(code, func(m string) string { return ";" + strings.Repeat(" ", len(m)-1) }), bad)
	exported := map[string]int{}
	for _, m := range exportCall.FindAllStringSubmatchIndex(code, -1) {
		name, line := code[m[2]:m[3]], lineOf(code, m[0])
		if exported[name] > 0 {
			bad.add(file, line, "EXPORT(%s) is there twice", name)
		}
		exported[name] = line
	}
	known := map[string]*entry{}
	for _, e := range s.entries {
		known[e.name] = e
		if exported[e.name] < e.line {
			bad.add(file, e.line, "%s is not followed by EXPORT(%s)", e.name, e.name)
		}
	}
	for name, line := range exported {
		if known[name] == nil {
			bad.add(file, line, "EXPORT(%s): there is no such entry point", name)
		}
	}
	for _, c := range s.contracts {
		for _, k := range c.kernels {
			switch e := known[k]; {
			case e == nil:
				bad.add(file, c.line, "the contract of %s covers %s, which is no entry point of this file", c.name, k)
			case e.contract != nil:
				bad.add(file, c.line, "the contract of %s covers %s, as does the one in line %d", c.name, k, e.contract.line)
			case e.line < c.line:
				bad.add(file, c.line, "the contract of %s stands below %s, which it covers", c.name, k)
			default:
				e.contract = c
			}
		}
		c.checkExpectations(file, bad)
	}
	for _, e := range s.entries {
		if e.contract == nil {
			bad.add(file, e.line, "%s: no contract covers it (a comment with \"// kernels  %s\" above it)", e.name, e.name)
		}
	}
	return s
}

var (
	exportCall  = regexp.MustCompile(`\bEXPORT\(\s*(\w+)\s*\)`)
	includeLine = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*include[ \t]*(\S.*)$`)
	rawAsm      = regexp.MustCompile(`\b(asm|__asm__|__asm)\b`)
	// Beside device.h, what few kernels want of the machine may have a header of its own, with its model in host_*.h.
	machineHeader = regexp.MustCompile(`^kernels/device_[a-z0-9]+\.h$`)
	anonymous     = regexp.MustCompile(`\bnamespace\s*\{`)
	launchBounds  = regexp.MustCompile(`^\s*__launch_bounds__\s*\(`)
	firstWord     = regexp.MustCompile(`^\s*(\w+)\s*`)
)

// plain blanks the comments and applies the rules of every file of a kernel: ASCII, no raw
// assembly, and names that are the same wherever it is compiled.
func plain(file, text string, bad *problems) string {
	for i, line := range strings.Split(text, "\n") {
		if j := strings.IndexFunc(line, func(r rune) bool { return r > 126 || r < 32 && r != '\t' }); j >= 0 {
			bad.add(file, i+1, "column %d: %q is not printable ASCII", j+1, []rune(line[j:])[0])
		}
	}
	code := blankComments(text)
	if m := rawAsm.FindStringIndex(code); m != nil && !machineHeader.MatchString(file) {
		bad.add(file, lineOf(code, m[0]), "raw asm; only device.h and device_*.h have it, so that every kernel also runs on the host device")
	}
	if m := anonymous.FindStringIndex(code); m != nil {
		bad.add(file, lineOf(code, m[0]), "an anonymous namespace; write inline namespace thisfile, since nvcc names shared arrays of an anonymous one after the folder")
	}
	return code
}

// blankComments puts spaces for the comments, so that offsets and lines stay.
func blankComments(text string) string {
	b := []byte(text)
	blank := func(from, to int) {
		for ; from < to && from < len(b); from++ {
			if b[from] != '\n' {
				b[from] = ' '
			}
		}
	}
	for i := 0; i < len(b); i++ {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			blank(i, i+n)
			i += n - 1
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				n = len(rest) - 4
			}
			blank(i, i+n+4)
			i += n + 3
		case b[i] == '"' || b[i] == '\'':
			for q := b[i]; i+1 < len(b) && b[i+1] != q && b[i+1] != '\n'; i++ {
				if b[i+1] == '\\' {
					i++
				}
			}
			i++
		}
	}
	return string(b)
}

func lineOf(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

// includes lists the headers; only those beside the kernels may be named.
func includes(file, code string, bad *problems) []string {
	var list []string
	for _, m := range includeLine.FindAllStringSubmatchIndex(code, -1) {
		what := strings.TrimSpace(code[m[2]:m[3]])
		if name := strings.Trim(what, `"`); len(name)+2 == len(what) && filepath.Base(name) == name {
			list = append(list, name)
			continue
		}
		bad.add(file, lineOf(code, m[0]), "#include %s; a kernel includes device.h, device_*.h and its family's headers in kernels/ only", what)
	}
	return list
}

// withoutDirectives blanks the preprocessor's lines, which may not make entry points.
func withoutDirectives(file, code string, bad *problems) string {
	lines := strings.Split(code, "\n")
	for i := 0; i < len(lines); i++ {
		if !strings.HasPrefix(strings.TrimSpace(lines[i]), "#") {
			continue
		}
		for more := true; more && i < len(lines); i++ {
			more = strings.HasSuffix(strings.TrimRight(lines[i], " \t\r"), `\`)
			if strings.Contains(lines[i], "__global__") || strings.Contains(lines[i], "EXPORT(") {
				bad.add(file, i+1, "a macro makes an entry point; write it out, so that its launcher can be generated")
			}
			lines[i] = strings.Repeat(" ", len(lines[i]))
		}
		i--
	}
	return strings.Join(lines, "\n")
}

// entries finds the entry points in code without comments and directives.
func entries(file, code string, bad *problems) []*entry {
	var list []*entry
	for at := 0; ; {
		i := strings.Index(code[at:], "__global__")
		if i < 0 {
			return list
		}
		i += at
		at = i + len("__global__")
		line := lineOf(code, i)
		before := strings.TrimSpace(code[strings.LastIndexAny(code[:i], ";{}")+1 : i])
		if strings.Join(strings.Fields(before), " ") != `extern "C"` && before != `extern"C"` {
			bad.add(file, line, `an entry point starts with: extern "C" __global__ void __launch_bounds__(N) name(`)
			continue
		}
		e := &entry{line: line}
		why := e.signature(code[at:])
		if why != "" {
			bad.add(file, line, "%s", why)
			continue
		}
		list = append(list, e)
	}
}

// signature reads `void __launch_bounds__(N) name(params) {` and says what is wrong with it, or "".
func (e *entry) signature(text string) string {
	bounds, void := false, false
	for {
		if m := launchBounds.FindString(text); m != "" {
			n := closing(text, len(m)-1)
			if n < 0 {
				return "__launch_bounds__( is not closed"
			}
			e.threads = boundThreads(text[len(m):n])
			bounds, text = true, text[n+1:]
			continue
		}
		m := firstWord.FindStringSubmatch(text)
		if m == nil {
			return "no name before the parameters"
		}
		text = text[len(m[0]):]
		if m[1] == "void" {
			void = true
			continue
		}
		e.name = m[1]
		break
	}
	switch {
	case !void:
		return e.name + ": an entry point returns void"
	case !bounds:
		return e.name + ": no __launch_bounds__; the registers are then counted for 1024 threads"
	case !kernelName.MatchString(e.name):
		return e.name + ": the name is not of the form op_pass_dtype in lower case"
	case !strings.HasPrefix(text, "("):
		return e.name + ": no parameter list"
	}
	n := closing(text, 0)
	if n < 0 {
		return e.name + ": the parameter list is not closed"
	}
	if !strings.HasPrefix(strings.TrimSpace(text[n+1:]), "{") {
		return e.name + ": no body; an entry point is not declared apart from it"
	}
	seen := map[string]bool{}
	for _, p := range strings.Split(text[1:n], ",") {
		got, why := parameter(p)
		if why == "" && seen[got.name] {
			why = "the name is there twice"
		}
		if why != "" {
			return fmt.Sprintf("%s: parameter %q: %s", e.name, strings.Join(strings.Fields(p), " "), why)
		}
		seen[got.name] = true
		e.params = append(e.params, got)
	}
	return ""
}

// boundThreads is the first argument of a launch bound, or 0 where that is no number.
func boundThreads(text string) int {
	first, _, _ := strings.Cut(text, ",")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return n
}

// closing is the index of the parenthesis that closes the one at text[at], or -1.
func closing(text string, at int) int {
	depth := 0
	for i := at; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

var (
	kernelName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	paramToken = regexp.MustCompile(`\w+|\S`)
	scalars    = map[string]string{
		"float": "F32", "double": "F64", "int": "I32", "unsigned": "U32", "unsigned int": "U32",
		"long long": "I64", "unsigned long long": "U64",
	}
)

// mapParameter is a tensor map. The copy engine reads it where the launch put it, so it is
// of the grid and never copied.
var mapParameter = regexp.MustCompile(`^const __grid_constant__ TensorMap (\w+)$`)

// parameter reads one parameter: a pointer, a scalar of at most 8 bytes, which the launch passes
// in a slot of 8 bytes, or a tensor map.
func parameter(text string) (param, string) {
	if m := mapParameter.FindStringSubmatch(strings.Join(strings.Fields(text), " ")); m != nil {
		return param{name: m[1], kind: "Map"}, ""
	}
	var words []string
	stars := 0
	for _, t := range paramToken.FindAllString(text, -1) {
		switch {
		case t == "const" || t == "volatile" || t == "__restrict__":
		case t == "*":
			stars++
		case regexp.MustCompile(`^\w+$`).MatchString(t):
			words = append(words, t)
		default:
			return param{}, fmt.Sprintf("%q has no place here; want a pointer or a scalar", t)
		}
	}
	if len(words) < 2 {
		return param{}, "want a type and a name"
	}
	p := param{name: words[len(words)-1], kind: "Ptr"}
	if stars > 0 {
		return p, ""
	}
	kind, ok := scalars[strings.Join(words[:len(words)-1], " ")]
	if !ok {
		return param{}, fmt.Sprintf("%s by value; a launch passes pointers, float, double, int, unsigned, long long, unsigned long long and const __grid_constant__ TensorMap", strings.Join(words[:len(words)-1], " "))
	}
	p.kind = kind
	return p, ""
}
