package text

import "strings"

// Nearest is the known name that is at most two edits away from got, without
// regard to got's case, and shares most of its letters, or "".
func Nearest(got string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := edits(strings.ToLower(got), k); d < at && 3*d <= len(k)+1 {
			best, at = k, d
		}
	}
	return best
}

// edits is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func edits(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			same := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				same++
			}
			d[i][j] = min(same, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
