package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule is one expectation: what it is about, a comparison and a number.
//
//	regs <= 40       registers per thread
//	shared <= 8192   bytes of shared memory per block, static and dynamic
//	occupancy >= 50  warps that fit on a multiprocessor, percent of its 64
//	instructions <= 900
//	has HMMA LDSM    at least one instruction of each kind
//	not LDL STL      none of them
//	HMMA >= 16       so many in the code (not so many executed)
//	block 128        threads per block, where the launch line gives no one number
//	dynamic 49152    bytes of dynamic shared memory, where the launch line gives no number
//
// "name:", "sm_90a:" or "name sm_90a:" before a rule restricts it and those
// after it in the same line. For one subject the rules of the narrowest scope hold alone.
type rule struct {
	kernel, arch string // "" for all
	subject      string // regs, shared, occupancy, instructions, block, dynamic, or an instruction
	op           string // <=, >= or ==
	value        float64
	line         int
}

func (r rule) String() string {
	return fmt.Sprintf("%s %s %s", r.subject, r.op, strconv.FormatFloat(r.value, 'g', -1, 64))
}

func (r rule) holds(v float64) bool {
	switch r.op {
	case "<=":
		return v <= r.value
	case ">=":
		return v >= r.value
	}
	return v == r.value
}

// width is larger for a narrower scope.
func (r rule) width() int {
	w := 0
	if r.kernel != "" {
		w += 2
	}
	if r.arch != "" {
		w++
	}
	return w
}

var (
	scopePrefix = regexp.MustCompile(`^([a-z][a-z0-9_ ]*):\s*`)
	comparison  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_.]*) (<=|>=|==) ([0-9.]+)$`)
	settingItem = regexp.MustCompile(`^(block|dynamic) ([0-9]+)$`)
	opcode      = regexp.MustCompile(`^[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*$`)
)

var metrics = []string{"regs", "shared", "occupancy", "instructions"}

// checkExpectations reads the rules and wants some of every kernel.
func (c *contract) checkExpectations(file string, bad *problems) {
	for _, e := range c.expects {
		rules, err := parseRules(e.text, e.line, c.kernels)
		if err != nil {
			bad.add(file, e.line, "expect: %v", err)
			return
		}
		c.rules = append(c.rules, rules...)
	}
	for i, r := range c.rules {
		for _, q := range c.rules[:i] {
			if q.kernel == r.kernel && q.arch == r.arch && q.subject == r.subject && q.op == r.op {
				bad.add(file, r.line, "expect: %q and %q are of one scope", q, r)
			}
		}
	}
	for _, k := range c.kernels {
		for _, subject := range []string{"regs", "occupancy", "dynamic"} {
			if on := c.silent(k, subject); on == "" {
				continue
			} else if subject == "dynamic" {
				bad.add(file, c.line, "launch names no one number of bytes as \"shared N\"; add \"dynamic N\" to expect for %s on %s, for its occupancy", k, on)
			} else {
				bad.add(file, c.line, "expect: nothing is said of the %s of %s on %s", subject, k, on)
			}
		}
	}
}

// silent lists the architectures for which the contract says nothing on a subject.
func (c *contract) silent(kernel, subject string) string {
	var on []string
	for _, a := range c.arches {
		_, set := c.setting(kernel, a, subject, c.shared, -1)
		if said := len(c.rulesFor(kernel, a, subject)) > 0; !said && (subject != "dynamic" || !set) {
			on = append(on, a)
		}
	}
	return strings.Join(on, " ")
}

// parseRules reads one expect field of a contract that covers the kernels.
func parseRules(text string, line int, kernels []string) ([]rule, error) {
	var list []rule
	scopeKernels, scopeArches := []string{""}, []string{""}
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == '\n' }) {
		item = strings.TrimSpace(item)
		narrowed := false
		for m := scopePrefix.FindStringSubmatch(item); m != nil; m = scopePrefix.FindStringSubmatch(item) {
			item = item[len(m[0]):]
			if !narrowed {
				scopeKernels, scopeArches = []string{""}, []string{""}
			}
			narrowed = true
			for _, w := range strings.Fields(m[1]) {
				switch {
				case slices.Contains(arches, w):
					scopeArches = append(scopeArches, w)
				case slices.Contains(kernels, w):
					scopeKernels = append(scopeKernels, w)
				default:
					return nil, fmt.Errorf("%q is neither a kernel of this contract nor one of %s", w, strings.Join(arches, " "))
				}
			}
		}
		if item == "" {
			continue
		}
		rules, err := parseItem(strings.Join(strings.Fields(item), " "))
		if err != nil {
			return nil, err
		}
		for _, k := range narrow(scopeKernels) {
			for _, a := range narrow(scopeArches) {
				for _, r := range rules {
					r.kernel, r.arch, r.line = k, a, line
					list = append(list, r)
				}
			}
		}
	}
	return list, nil
}

// narrow drops the leading "everything" once something is named.
func narrow(scope []string) []string {
	if len(scope) > 1 {
		return scope[1:]
	}
	return scope
}

func parseItem(item string) ([]rule, error) {
	if m := settingItem.FindStringSubmatch(item); m != nil {
		v, err := strconv.ParseFloat(m[2], 64)
		return []rule{{subject: m[1], op: "==", value: v}}, err
	}
	if m := comparison.FindStringSubmatch(item); m != nil {
		v, err := strconv.ParseFloat(m[3], 64)
		if err == nil && !slices.Contains(metrics, m[1]) && !opcode.MatchString(m[1]) {
			err = fmt.Errorf("%q is neither one of %s nor an instruction", m[1], strings.Join(metrics, ", "))
		}
		return []rule{{subject: m[1], op: m[2], value: v}}, err
	}
	words := strings.Fields(item)
	if len(words) < 2 || words[0] != "has" && words[0] != "not" {
		return nil, fmt.Errorf("%q is no expectation; want \"regs <= 40\", \"has HMMA\", \"not LDL\", \"HMMA >= 8\", \"block 128\" or \"dynamic 4096\"", item)
	}
	var list []rule
	for _, w := range words[1:] {
		if !opcode.MatchString(w) {
			return nil, fmt.Errorf("%q is no instruction", w)
		}
		r := rule{subject: w, op: ">=", value: 1}
		if words[0] == "not" {
			r.op, r.value = "<=", 0
		}
		list = append(list, r)
	}
	return list, nil
}

// rulesFor gives the rules on a subject that hold for a kernel on an architecture.
func (c *contract) rulesFor(kernel, arch, subject string) []rule {
	var best []rule
	for _, r := range c.rules {
		if r.subject != subject || r.kernel != "" && r.kernel != kernel || r.arch != "" && r.arch != arch {
			continue
		}
		if len(best) > 0 && best[0].width() != r.width() {
			if r.width() < best[0].width() {
				continue
			}
			best = nil
		}
		best = append(best, r)
	}
	return best
}

// setting is the number of threads or bytes that the contract gives, in expect or, else, in its launch line.
func (c *contract) setting(kernel, arch, subject string, launch, none int) (int, bool) {
	if r := c.rulesFor(kernel, arch, subject); len(r) == 1 {
		return int(r[0].value), true
	}
	return launch, launch != none
}

// subjects lists what the rules for one kernel and architecture are about.
func (c *contract) subjects(kernel, arch string) []string {
	var list []string
	for _, r := range c.rules {
		if r.subject == "block" || r.subject == "dynamic" || slices.Contains(list, r.subject) || len(c.rulesFor(kernel, arch, r.subject)) == 0 {
			continue
		}
		list = append(list, r.subject)
	}
	slices.SortFunc(list, func(a, b string) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a, b))
	})
	return list
}

func order(subject string) int {
	if i := slices.Index(metrics, subject); i >= 0 {
		return i
	}
	return len(metrics)
}

// matches tells whether an instruction of the disassembly is of the kind that a rule names:
// the same instruction, with all of the kind's modifiers in their order.
func matches(kind, instruction string) bool {
	want, got := strings.Split(kind, "."), strings.Split(instruction, ".")
	if want[0] != got[0] {
		return false
	}
	want = want[1:]
	for _, m := range got[1:] {
		if len(want) > 0 && want[0] == m {
			want = want[1:]
		}
	}
	return len(want) == 0
}
