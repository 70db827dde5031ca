package report

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		v, lo, hi float64
		want      string
	}{
		{3.456, 3.2, 3.7, "3.46"},
		{8.7312, 8.4, 9.1, "8.73"},
		{0.412, 0.39, 0.44, "0.412"},
		{412.23, 405, 419, "412.2"},
		{12345.678, 11000, 13000, "12,346"},
		{3.14159265, nan, nan, "3.142"},
		{0, nan, nan, "0"},
		{-2.5, nan, nan, "−2.5"},
		{-0.0001, -1, 1, "0.00"},
		{100, nan, nan, "100"},
		{1.25e-12, nan, nan, "1.25e-12"},
		{nan, nan, nan, "—"},
		{0.5, 0.5, 0.5, "0.5"},
		{2e20, nan, nan, "2e+20"},
		{1234567.5, nan, nan, "1,234,568"},
	} {
		if got := Number(c.v, c.lo, c.hi); got != c.want {
			t.Errorf("Number(%v, %v, %v) = %q; want %q", c.v, c.lo, c.hi, got, c.want)
		}
	}
	if got := Range(3.456, 3.2, 3.7); got != "3.20 to 3.70" {
		t.Errorf("Range = %q", got)
	}
	if got := Count(-1234567); got != "−1,234,567" {
		t.Errorf("Count = %q", got)
	}
}

func TestTableText(t *testing.T) {
	var b strings.Builder
	tab := Table{Caption: "Speed", Columns: Columns("row", "ratio>", "met"), Rows: [][]string{{"fréchet", "21.5", "yes"}, {"in\x1b[2Jception", "1.04", "no"}}}
	if err := tab.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := "Speed\n" +
		"row               ratio  met\n" +
		"----------------  -----  ---\n" +
		"fréchet            21.5  yes\n" +
		"in\\x1b[2Jception   1.04  no\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if err := (Table{Columns: Columns("a"), Rows: [][]string{{}}}).WriteText(&b); err == nil {
		t.Error("ragged table: no error")
	}
}

func TestJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteJSON(&b, map[string]any{"path": "a<b>&c", "fid": 1.5}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"fid\": 1.5,\n  \"path\": \"a<b>&c\"\n}\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if err := WriteJSON(&b, math.Inf(1)); err == nil {
		t.Error("infinity: no error")
	}
}

// TestChartGeometry checks the picture against the numbers: positions are in
// order and in proportion (or log proportion) to the values.
func TestChartGeometry(t *testing.T) {
	at := func(s string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	p := Chart{Rows: []Row{{Value: 2, Lo: 1, Hi: 3}, {Value: 8}}, Bars: true}.layout()
	if p.Ticks[0].Text != "0" || p.Ticks[len(p.Ticks)-1].Text != "8" {
		t.Errorf("linear ticks %v; want 0 to 8", p.Ticks)
	}
	if a, b := at(p.Rows[0].BarWidth), at(p.Rows[1].BarWidth); math.Abs(b/a-4) > 0.01 {
		t.Errorf("bars of 2 and 8 are %v and %v wide; want 1 to 4", a, b)
	}
	if lo, hi, x := at(p.Rows[0].Lo), at(p.Rows[0].Hi), at(p.Rows[0].X); math.Abs((lo+hi)/2-x) > 0.02 {
		t.Errorf("interval %v to %v around %v", lo, hi, x)
	}
	p = Chart{Log: true, Rows: []Row{{Value: 0.1}, {Value: 1, Lo: -1, Hi: 10}, {Value: 100}}}.layout()
	if a, b, c := at(p.Rows[0].X), at(p.Rows[1].X), at(p.Rows[2].X); math.Abs((c-b)/(b-a)-2) > 0.01 {
		t.Errorf("0.1, 1, 100 at %v, %v, %v; want equal steps per decade", a, b, c)
	}
	if p.Rows[1].Lo != p.Rows[0].X {
		t.Errorf("lower bound of -1 on a log axis at %s; want the left end %s", p.Rows[1].Lo, p.Rows[0].X)
	}
	p = Chart{Log: true, Rows: []Row{{Value: 0}, {Value: 5}}}.layout()
	if p.Scale != "linear axis" || p.Rows[0].X == p.Rows[1].X {
		t.Errorf("log axis with a zero: %q, %v", p.Scale, p.Rows)
	}
	p = Chart{Rows: []Row{{Value: -3}, {Value: 4}}, Bars: true}.layout()
	if l, r := at(p.Rows[0].BarX)+at(p.Rows[0].BarWidth), at(p.Rows[1].BarX); math.Abs(l-r) > 0.02 {
		t.Errorf("bars of -3 and 4 do not meet at zero: %v, %v", l, r)
	}
	for _, v := range []float64{0, 1e-300, 1e300, -7} { // no division by zero, no endless ticks
		if p := (Chart{Rows: []Row{{Value: v}}}).layout(); len(p.Ticks) < 2 || len(p.Ticks) > 12 {
			t.Errorf("value %v: %d ticks", v, len(p.Ticks))
		}
	}
}

func BenchmarkPage(b *testing.B) {
	p := &Page{Title: "x", Sections: []Section{{Blocks: []Block{Chart{Rows: []Row{{Value: 1}, {Value: 2}}}}}}}
	for b.Loop() {
		if err := p.WriteHTML(discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
