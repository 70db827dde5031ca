package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// contract is the comment that says what kernels promise.
type contract struct {
	name, title string
	line        int      // of its first line
	intro       []string // the formula and the text above the fields
	fields      map[string]field
	kernels     []string
	shared      int     // dynamic shared memory per block that the launch asks for, -1 when it is a formula
	block       int     // threads per block, 0 when the contract gives no one number
	expects     []field // the lines of the field expect, continuations joined
	rules       []rule
	arches      []string // that it is compiled for: all, or those of the field arch
}

type field struct {
	text string
	line int
}

// fieldNames in the order in which the page shows them; the first seven are wanted in every contract.
var (
	wantedFields = []string{"kernels", "shapes", "launch", "bound", "expect", "repro", "twin"}
	otherFields  = []string{"arch", "params", "source", "note"}
)

var (
	titleLine    = regexp.MustCompile(`^// (\w+) - (\S.*)$`)
	fieldLine    = regexp.MustCompile(`^// ([a-z]+)  +(\S.*)$`)
	continuation = regexp.MustCompile(`^//         +(\S.*)$`)
	launchShared = regexp.MustCompile(`\bshared (?:up to |at most |<= )?(\d+)(?: bytes| B)?(?:[.,;:]|$)`)
	launchBlock  = regexp.MustCompile(`\bblock (\d+)(?: x (\d+))?(?: x (\d+))?(?:[.,;:]|$)`)
)

// contracts finds the comment blocks that have a field kernels.
func contracts(file, text string, bad *problems) []*contract {
	var list []*contract
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); {
		if !strings.HasPrefix(lines[i], "//") {
			i++
			continue
		}
		j := i
		isContract := false
		for ; j < len(lines) && strings.HasPrefix(lines[j], "//"); j++ {
			isContract = isContract || strings.HasPrefix(lines[j], "// kernels  ")
		}
		if isContract {
			list = append(list, readContract(file, lines[i:j], i+1, bad))
		}
		i = j
	}
	return list
}

func readContract(file string, lines []string, first int, bad *problems) *contract {
	c := &contract{line: first, fields: map[string]field{}}
	if m := titleLine.FindStringSubmatch(lines[0]); m != nil {
		c.name, c.title = m[1], m[2]
	} else {
		bad.add(file, first, "a contract starts with \"// name - title\"")
	}
	last := ""
	for i, l := range lines[1:] {
		line := first + 1 + i
		l = strings.TrimRight(l, " \t\r")
		if l == "//" {
			if last == "" {
				c.intro = append(c.intro, "")
			}
			continue
		}
		if m := fieldLine.FindStringSubmatch(l); m != nil && (last != "" || slices.Contains(wantedFields, m[1]) || slices.Contains(otherFields, m[1])) {
			c.addField(file, m[1], m[2], line, bad)
			last = m[1]
			continue
		}
		if last == "" {
			c.intro = append(c.intro, strings.TrimPrefix(l, "// "))
			continue
		}
		m := continuation.FindStringSubmatch(l)
		if m == nil {
			bad.add(file, line, "neither a field (\"// name\" and two spaces or more) nor a continuation (\"//\" and nine spaces or more)")
			continue
		}
		if last == "expect" {
			e := &c.expects[len(c.expects)-1]
			e.text += " " + m[1]
		}
		f := c.fields[last]
		f.text += "\n" + m[1]
		c.fields[last] = f
	}
	c.intro = trimEmpty(c.intro)
	for _, name := range wantedFields {
		if c.fields[name].text == "" {
			bad.add(file, first, "the contract of %s has no field %q", c.name, name)
		}
	}
	c.kernels = strings.Fields(c.fields["kernels"].text)
	c.arches = arches
	if f := c.fields["arch"]; f.text != "" {
		c.arches = strings.Fields(f.text)
		for _, a := range c.arches {
			if !slices.Contains(arches, a) {
				bad.add(file, f.line, "arch: %q is none of %s", a, strings.Join(arches, " "))
			}
		}
	}
	c.readLaunch()
	if r := c.fields["repro"]; r.text != "" && r.text != "yes" && !strings.HasPrefix(r.text, "yes:") && !strings.HasPrefix(r.text, "no:") {
		bad.add(file, r.line, "repro is %q; want \"yes\" or \"no: why\"", r.text)
	}
	return c
}

func (c *contract) addField(file, name, text string, line int, bad *problems) {
	if !slices.Contains(wantedFields, name) && !slices.Contains(otherFields, name) {
		bad.add(file, line, "a contract has no field %q; it has %s, and %s", name, strings.Join(wantedFields, ", "), strings.Join(otherFields, ", "))
		return
	}
	if name == "expect" {
		c.expects = append(c.expects, field{text, line})
	}
	f, again := c.fields[name]
	if again {
		text = f.text + "\n" + text
		line = f.line
		if name != "expect" {
			bad.add(file, line, "the field %q is there twice; continue it with nine spaces after //", name)
		}
	}
	c.fields[name] = field{text, line}
}

// readLaunch takes the block's size and the dynamic shared memory from the launch line.
func (c *contract) readLaunch() {
	text := strings.Join(strings.Fields(c.fields["launch"].text), " ")
	c.shared, c.block = -1, 0
	if m := launchShared.FindAllStringSubmatch(text, -1); len(m) == 1 {
		c.shared, _ = strconv.Atoi(m[0][1])
	}
	if m := launchBlock.FindAllStringSubmatch(text, -1); len(m) == 1 {
		c.block = 1
		for _, d := range m[0][1:] {
			if n, err := strconv.Atoi(d); err == nil {
				c.block *= n
			}
		}
	}
}

func trimEmpty(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
