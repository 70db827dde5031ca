package motion

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fidlab/fidlab/data"
)

// Caption is one line of a text file: what a person wrote about a motion.
type Caption struct {
	Text     string
	Words    []Word  // as a tagger saw them
	From, To float64 // seconds; both 0: the whole motion
}

// Word is a word with its part of speech, such as walk and VERB.
type Word struct{ Lemma, Tag string }

// Whole reports whether the caption is about the whole motion.
func (c Caption) Whole() bool { return c.From == 0 && c.To == 0 }

// Bounds of a text file: the published ones are below 10 KB.
const (
	maxTexts = 1 << 20
	maxList  = 16 << 20
)

// ParseTexts reads a file of texts/: lines
//
//	caption#word/TAG word/TAG …#start#end
//
// with start and end in seconds. Both 0 mean the whole motion; NaN, which the
// published files hold, counts as 0. Empty lines are left out. It refuses
// a line with other than three '#', an empty caption, a word without a tag, and
// times that are no numbers, negative or infinite; name is for the errors.
func ParseTexts(name string, b []byte) ([]Caption, error) {
	var out []Caption
	err := eachLine(name, b, maxTexts, func(n int, line string) error {
		bad := func(format string, args ...any) error {
			return data.Errorf("motion: %s: line %d: %s", name, n, fmt.Sprintf(format, args...))
		}
		f := strings.Split(line, "#")
		if len(f) != 4 {
			return bad("%d fields between '#'; want 4: caption#word/TAG word/TAG#start#end", len(f))
		}
		c := Caption{Text: strings.TrimSpace(f[0])}
		if c.Text == "" {
			return bad("no caption before the first '#'; want a sentence")
		}
		for w := range strings.FieldsSeq(f[1]) {
			k := strings.LastIndexByte(w, '/')
			if k < 0 || k == len(w)-1 {
				return bad("word %q has no tag; want word/TAG", w)
			}
			c.Words = append(c.Words, Word{w[:k], w[k+1:]})
		}
		for k, to := range []*float64{&c.From, &c.To} {
			v, err := strconv.ParseFloat(strings.TrimSpace(f[2+k]), 64)
			switch {
			case err != nil || math.IsInf(v, 0) || v < 0:
				return bad("%s time %q; want seconds, 0 or more", []string{"start", "end"}[k], f[2+k])
			case math.IsNaN(v):
				v = 0
			}
			*to = v
		}
		if !c.Whole() && c.To <= c.From {
			return bad("a part from %g to %g s; want the end after the start, or 0 and 0 for the whole motion", c.From, c.To)
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, data.Errorf("motion: %s: no caption in it; want lines of caption#word/TAG word/TAG#start#end", name)
	}
	return out, nil
}

// ParseList reads a file of names, one a line, such as train.txt. It refuses a
// name that leads out of the folder and one that is there twice.
func ParseList(name string, b []byte) ([]string, error) {
	var out []string
	seen := map[string]int{}
	err := eachLine(name, b, maxList, func(n int, line string) error {
		if strings.ContainsAny(line, `/\`) || line == "." || line == ".." {
			return data.Errorf("motion: %s: line %d: %q is no name of a motion; want one without folders and ending, such as 000021", name, n, line)
		}
		if before := seen[line]; before > 0 {
			return data.Errorf("motion: %s: line %d: %s is there before, on line %d; leave one out", name, n, line, before)
		}
		seen[line] = n
		out = append(out, line)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, data.Errorf("motion: %s: no name in it; want the names of motions, one a line", name)
	}
	return out, nil
}

// eachLine calls f with the lines that are not empty, without spaces around them,
// and their numbers from 1. A byte order mark is passed over.
func eachLine(name string, b []byte, most int, f func(n int, line string) error) error {
	if len(b) > most {
		return data.Errorf("motion: %s: %d bytes; want at most %d of text", name, len(b), most)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if bad := bytes.IndexByte(b, 0); bad >= 0 || !utf8.Valid(b) {
		return data.Errorf("motion: %s: is no text in UTF-8; convert it", name)
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, most+1)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" {
			continue
		}
		if err := f(n, line); err != nil {
			return err
		}
	}
	return sc.Err()
}
