package text

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"fid", "stats", "merge", "features", "--skip-bad"}
	for got, want := range map[string]string{
		"fdi": "fid", "FID": "fid", "stat": "stats", "featuers": "features", "feature": "features",
		"--skip_bad": "--skip-bad", "--skipbad": "--skip-bad",
		"x": "", "": "", "kid": "fid", "sampler": "", "--json": "",
	} {
		if c := Nearest(got, known); c != want {
			t.Errorf("Nearest(%q) = %q, want %q", got, c, want)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := edits(c.a, c.b); got != c.want {
			t.Errorf("edits(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
