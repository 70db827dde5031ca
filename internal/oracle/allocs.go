package oracle

import "testing"

// Allocations is testing.AllocsPerRun, the least of three counts. What operations keep for
// their next call goes when the collector runs, and threads that wait allocate too: either
// spoils a count now and then. What f itself allocates is in all three.
func Allocations(runs int, f func()) float64 {
	n := testing.AllocsPerRun(runs, f)
	for i := 0; i < 2 && n > 0; i++ {
		n = min(n, testing.AllocsPerRun(runs, f))
	}
	return n
}
