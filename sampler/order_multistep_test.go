package sampler_test

import (
	"fmt"
	"testing"
)

func TestMeasure(t *testing.T) {
	for _, name := range []string{"lms:order=1", "lms:order=2", "lms:order=3", "lms", "lms:start=plain", "deis:order=2", "deis", "deis:start=plain", "ipndm:order=2", "ipndm:order=3","ipndm"} {
		for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
			for _, g := range smoothGrids {
				fmt.Printf("%-28s %-9s %-7s", name, p.name, g.path)
				for n := 20; n <= 640; n *= 2 {
					o, e := orderOf(t, p, solver(t, name), g.path, g.spec, n)
					fmt.Printf(" %5.2f (%.1e)", o, e)
				}
				fmt.Println()
			}
		}
	}
}
