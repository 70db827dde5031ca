package imageio

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrInput is what every error about a user's input is (errors.Is): a missing
// path, no pictures, bad files, a cut archive. A command maps it to exit code 3.
var ErrInput = errors.New("bad input")

// ErrEmpty is, besides ErrInput, what the error is when an input has no picture.
var ErrEmpty = errors.New("no images")

// inputError is an error about one input: "imageio: <input>: <what>; <what to do>".
type inputError struct {
	msg   string
	cause error
	empty bool
}

func inputf(format string, args ...any) error {
	e := fmt.Errorf(format, args...)
	return &inputError{msg: "imageio: " + e.Error(), cause: errors.Unwrap(e)}
}

func (e *inputError) Error() string { return e.msg }
func (e *inputError) Unwrap() error { return e.cause }
func (e *inputError) Is(target error) bool {
	return target == ErrInput || e.empty && target == ErrEmpty
}

// Bad is a file that was named or found as a picture and can't be used as one.
type Bad struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// BadFilesError lists all bad files of an input, in its order. It is an ErrInput.
type BadFilesError struct {
	Input string
	Bad   []Bad
	Total int // pictures in the input, bad ones included
}

func (e *BadFilesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "imageio: %s: %d of %s bad; mend or remove them, or pass --skip-bad", e.Input,
		len(e.Bad), plural(e.Total, "image is", "images are"))
	for _, f := range e.Bad {
		fmt.Fprintf(&b, "\n  %s: %s", shown(f.Path), f.Reason)
	}
	return b.String()
}

// Is makes the error an ErrInput.
func (e *BadFilesError) Is(target error) bool { return target == ErrInput }

// shown is a name fit for one line of a terminal: names with line breaks,
// control characters or broken UTF-8 are quoted.
func shown(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return strconv.Quote(name)
	}
	return name
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Found is what opening a source came across beside good pictures.
type Found struct {
	Images     int            // good pictures, -1 when only reading tells
	Hidden     int            // names beginning with a dot
	Other      map[string]int // skipped files that are no pictures, by extension or kind
	Duplicates int            // the same file under a second name
	Loops      int            // links to a folder that contains them
	Misnamed   int            // pictures whose extension names another format; used by content
	Bad        []Bad          // bad files, left out because Options.SkipBad is set
}

// Finder is a source that can tell what it came across.
type Finder interface{ Found() Found }

// skipped says in words what was left out: "3 hidden, 2 .txt".
func (f *Found) skipped() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(len(f.Bad), "bad")
	add(f.Hidden, "hidden")
	add(f.Duplicates, "duplicate")
	add(f.Loops, "in link loops")
	kinds := make([]string, 0, len(f.Other))
	for k := range f.Other {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for i, k := range kinds {
		if i == 8 {
			parts = append(parts, fmt.Sprintf("%d more kinds", len(kinds)-i))
			break
		}
		add(f.Other[k], k)
	}
	return strings.Join(parts, ", ")
}

func (f *Found) other(kind string) {
	if f.Other == nil {
		f.Other = map[string]int{}
	}
	f.Other[kind]++
}

// count is the number of files left out.
func (f *Found) count() int {
	n := f.Hidden + f.Duplicates + f.Loops + len(f.Bad)
	for _, v := range f.Other {
		n += v
	}
	return n
}

// emptyError says that an input has no picture, and what was there instead.
func emptyError(input string, f *Found) error {
	msg := fmt.Sprintf("imageio: 0 images found in %s; ", input)
	if n := f.count(); n > 0 {
		msg += plural(n, "file", "files") + " skipped because not usable as images: " + f.skipped()
		for _, b := range f.Bad {
			msg += fmt.Sprintf("\n  %s: %s", shown(b.Path), b.Reason)
		}
	} else {
		msg += "it is empty"
	}
	return &inputError{msg: msg, empty: true}
}
