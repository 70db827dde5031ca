package sampler_test

import (
	"fmt"
	"testing"
)

func TestMeasure(t *testing.T) {
	for _, name := range []string{"pndm", "plms"} {
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
