package report

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
)

// Number writes v with the digits that its interval [lo, hi] supports: the last
// one stands for a fiftieth to a fifth of the interval's width. Without an
// interval (NaN bounds, or lo = hi) it keeps four significant digits at most.
func Number(v, lo, hi float64) string {
	s := fixed(v, digits(v, lo, hi))
	if !(hi > lo) && strings.Contains(s, ".") && !strings.Contains(s, "e") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Range writes the interval "lo to hi" with the digits of Number.
func Range(v, lo, hi float64) string {
	d := digits(v, lo, hi)
	return fixed(lo, d) + " to " + fixed(hi, d)
}

// digits is the number of decimals that Number keeps; -1 asks for the exponent form.
func digits(v, lo, hi float64) int {
	step := math.Abs(v) / 1000 // four significant digits
	if w := hi - lo; w > 0 && !math.IsInf(w, 0) {
		step = w / 50
	}
	if step == 0 || math.IsNaN(step) || math.IsInf(step, 0) {
		return 0
	}
	d := int(math.Ceil(-math.Log10(step) - 1e-9))
	if d > 9 {
		return -1
	}
	return max(d, 0)
}

func fixed(v float64, d int) string {
	switch {
	case math.IsNaN(v):
		return "—"
	case d < 0 || math.Abs(v) >= 1e15:
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	s := group(strconv.FormatFloat(math.Abs(v), 'f', d, 64))
	if v < 0 && strings.Trim(s, "0.,") != "" {
		return "−" + s
	}
	return s
}

// group puts a comma between thousands: 12345.67 becomes 12,345.67.
func group(s string) string {
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}

// Count writes a whole number with commas between thousands.
func Count(n int) string {
	if n < 0 {
		return "−" + group(strconv.Itoa(-n))
	}
	return group(strconv.Itoa(n))
}

// WriteJSON writes v as one indented JSON object and a newline. Unlike
// encoding/json it leaves <, > and & as they are: nothing is put into HTML.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
