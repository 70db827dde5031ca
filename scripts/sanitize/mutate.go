package main

import (
	"fmt"
	"regexp"
)

func (r *runner) mutate(which *regexp.Regexp, kernels []*kernel, recordings map[string][]*recording, work string) (int, error) {
	return 0, fmt.Errorf("none")
}
