// Package lion searches optimisers as programs, and proves the one that such a search
// found: Lion, whose step is the sign of a moving mean of gradients (Chen et al. 2023,
// "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675).
//
// A Program is a list of assignments to tensors and scalars, such as
//
//	tensor m
//	c = interpolate(g, m, 0.9)
//	u = sign(c)
//	update = u * lr
//	m = interpolate(g, m, 0.99)
//
// Parse reads it, Graph is what it computes without what has no effect, and a Machine
// carries that out over flat vectors. Programs are compared by what they compute: names,
// order and dead statements do not count.
package lion
