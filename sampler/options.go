package sampler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// values are the options of a solver, as its Info lists them, after parsing.
type values struct {
	nums  map[string]float64
	words map[string]string
	lists map[string][]int
}

// num is a number.
func (v values) num(name string) float64 { return v.nums[name] }

// is tells whether a number that stands for yes or no is not zero.
func (v values) is(name string) bool { return v.nums[name] != 0 }

// word is one of the words that an option allows.
func (v values) word(name string) string { return v.words[name] }

// whole is a whole number, or the word for one; -1 stands for what is none.
func (v values) whole(name string) int {
	if n, err := strconv.Atoi(v.words[name]); err == nil {
		return n
	}
	if f := v.nums[name]; f == float64(int(f)) {
		return int(f)
	}
	return -1
}

// list is whole numbers, "3+5+8".
func (v values) list(name string) []int { return v.lists[name] }

// parseOptions reads "name=value,name=value" over info's defaults.
func parseOptions(info Info, list string) (values, error) {
	v := values{map[string]float64{}, map[string]string{}, map[string][]int{}}
	allowed := map[string][]string{}
	for _, o := range info.Options {
		k, def, _ := strings.Cut(o, "=")
		if f, err := strconv.ParseFloat(def, 64); err == nil {
			v.nums[k] = f
			continue
		}
		if def == "[]" {
			v.lists[k] = nil
			continue
		}
		allowed[k] = strings.Split(def, "|")
		v.words[k] = allowed[k][0]
	}
	if list == "" {
		return v, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		k, given, _ := strings.Cut(part, "=")
		k, given = strings.TrimSpace(k), strings.TrimSpace(given)
		if words := allowed[k]; words != nil {
			if !slices.Contains(words, given) {
				return v, fmt.Errorf("sampler: %s: %q; wanted %s=%s", info.Name, part, k, strings.Join(words, " or "))
			}
			v.words[k] = given
			continue
		}
		if _, ok := v.lists[k]; ok {
			for number := range strings.SplitSeq(given, "+") {
				n, err := strconv.Atoi(number)
				if err != nil {
					return v, fmt.Errorf("sampler: %s: %q; wanted %s=number or number+number", info.Name, part, k)
				}
				v.lists[k] = append(v.lists[k], n)
			}
			continue
		}
		if _, ok := v.nums[k]; !ok {
			known := strings.Join(info.Options, ", ")
			if known == "" {
				known = "none"
			}
			return v, fmt.Errorf("sampler: %s has no option %q; its options and defaults: %s", info.Name, k, known)
		}
		f, err := strconv.ParseFloat(given, 64)
		if err != nil {
			return v, fmt.Errorf("sampler: %s: %q; wanted %s=number", info.Name, part, k)
		}
		v.nums[k] = f
	}
	return v, nil
}

// name is the registry's spelling of a solver: its options that differ from the
// defaults, given in the registry's order as option, value pairs.
func name(base string, options ...any) string {
	sep := ":"
	for i := 0; i < len(options); i += 2 {
		var value string
		switch v := options[i+1].(type) {
		case float64:
			value = strconv.FormatFloat(v, 'g', -1, 64)
		case int:
			value = strconv.Itoa(v)
		case bool:
			value = "0"
			if v {
				value = "1"
			}
		case string:
			value = v
		case []int:
			value = strings.ReplaceAll(strings.Trim(fmt.Sprint(v), "[]"), " ", "+")
			if v == nil {
				value = "[]"
			}
		}
		k, def, _ := strings.Cut(options[i].(string), "=")
		if word, _, _ := strings.Cut(def, "|"); value == word {
			continue
		}
		base += sep + k + "=" + value
		sep = ","
	}
	return base
}
