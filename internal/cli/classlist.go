package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// classList is the flag --class: numbers, or names of classes that the model's checkpoint has.
type classList struct {
	to    *[]int         // numbers; 0 stands in for a name until the model is open
	named map[int]string // by place in to
}

// flag adds the flag to a command; numbers go to to.
func (c *classList) flag(f *pflag.FlagSet, to *[]int) {
	c.to = to
	f.Var(c, "class", "ask for class `C`, or for several in turn (0,1,2); names where the model has them")
}

// Set takes in classes with commas between them.
func (c *classList) Set(v string) error {
	for _, e := range strings.Split(v, ",") {
		e = strings.TrimSpace(e)
		n, err := strconv.Atoi(e)
		if err != nil {
			if e == "" {
				return fmt.Errorf("an empty class; want numbers or names, as in 0,1,2")
			}
			if c.named == nil {
				c.named = map[int]string{}
			}
			n, c.named[len(*c.to)] = 0, e
		}
		*c.to = append(*c.to, n)
	}
	return nil
}

// String is the numbers.
func (c *classList) String() string {
	if c.to == nil || len(*c.to) == 0 {
		return ""
	}
	return strings.Trim(fmt.Sprint(*c.to), "[]")
}

// Type is what help calls the value.
func (c *classList) Type() string { return "classes" }

// settle puts the numbers of the model's classes in the place of names.
func (c *classList) settle(m *model) error {
	for at, name := range c.named {
		k := slices.Index(m.classNames, name)
		switch {
		case k >= 0:
			(*c.to)[at] = k
		case m.classNames == nil:
			return usagef("--class %s: model %s has no names of classes; it has the numbers %v", name, m.name, m.classes)
		default:
			return unknown("class", name, slices.Clone(m.classNames)) // which it sorts
		}
	}
	return nil
}

// fit puts numbers in the place of names, and refuses classes that the model lacks.
func (c *classList) fit(m *model) error {
	if c.to == nil {
		return nil // no flag
	}
	if err := c.settle(m); err != nil {
		return err
	}
	for _, k := range *c.to {
		if !slices.Contains(m.classes, k) {
			return usagef("--class %d: model %s has the classes %v", k, m.name, m.classes)
		}
	}
	return nil
}

// fit applies to the model what the options ask of it.
func (o *sampleOptions) fit(m *model) error {
	if err := o.named.fit(m); err != nil {
		return err
	}
	if o.valRange == "" {
		return nil
	}
	lo, hi, ok := strings.Cut(o.valRange, ",")
	var err1, err2 error
	m.lo, err1 = strconv.ParseFloat(lo, 64)
	m.hi, err2 = strconv.ParseFloat(hi, 64)
	if !ok || err1 != nil || err2 != nil || !(m.lo < m.hi) || math.IsInf(m.hi-m.lo, 0) {
		return usagef("--range %q: want LO,HI with LO below HI", o.valRange)
	}
	return nil
}
