package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows of cells under named columns.
type Table struct {
	Caption string
	Columns []Column
	Rows    [][]string // each as long as Columns
}

// Column is a column's head; numbers stand on the right.
type Column struct {
	Title string
	Right bool
}

// Columns makes columns from their titles; a title that ends in ">" is of a
// column of numbers and loses that sign.
func Columns(titles ...string) []Column {
	out := make([]Column, len(titles))
	for i, t := range titles {
		name, right := strings.CutSuffix(t, ">")
		out[i] = Column{strings.TrimSpace(name), right}
	}
	return out
}

func (t Table) check() error {
	if len(t.Columns) == 0 {
		return fmt.Errorf("table %q: no columns", t.Caption)
	}
	for i, r := range t.Rows {
		if len(r) != len(t.Columns) {
			return fmt.Errorf("table %q: row %d has %d cells; want %d, one per column", t.Caption, i, len(r), len(t.Columns))
		}
	}
	return nil
}

// WriteText writes the table for a terminal: aligned columns, two spaces apart,
// a line under the head, no space at line ends. Control characters in cells are
// written as escapes, so that a name cannot move the cursor.
func (t Table) WriteText(w io.Writer) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	lines := make([][]string, 0, len(t.Rows)+2)
	head, rule := make([]string, len(t.Columns)), make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = c.Title
	}
	lines = append(lines, head, rule)
	lines = append(lines, t.Rows...)
	width := make([]int, len(t.Columns))
	for i, r := range lines {
		lines[i] = make([]string, len(r))
		for j, cell := range r {
			lines[i][j] = printable(cell)
			width[j] = max(width[j], utf8.RuneCountInString(lines[i][j]))
		}
	}
	for j := range rule {
		lines[1][j] = strings.Repeat("-", width[j])
	}
	var b strings.Builder
	if t.Caption != "" {
		b.WriteString(printable(t.Caption) + "\n")
	}
	for _, r := range lines {
		var line strings.Builder
		for j, cell := range r {
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(cell))
			if t.Columns[j].Right {
				line.WriteString(pad + cell + "  ")
			} else {
				line.WriteString(cell + pad + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable escapes control characters; everything else stays.
func printable(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if control(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func control(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }
