// Package data is what the generated data sets share: splits, the random
// stream of an item, the Set interface, the readers' answers, and the refusals.
// The sets themselves are the packages data/shapes, data/city and so on.
//
// Item i of a split of a set under a seed is a pure function of these four: it
// is made from a stream of its own, whatever was made before it and on however
// many threads. The stream is SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014; the constants of
// Vigna's public-domain splitmix64.c), so a GPU makes the same items bit for bit.
//
//	set := shapes.New(data.DefaultSeed)
//	item := set.At(data.Test, 7)
//	x, c, h, w := item.Tensor() // float32 in [-1,1]
//
// A generator draws integers wherever it can and uses + − × / and comparisons
// in float64 for its pixels, each product rounded by an explicit conversion, so
// that no processor fuses it with a sum. Normal uses the logarithm and the
// cosine of package math and may differ in the last place between processors.
//
// The one rule to know: a change of what a generator makes is a new version,
// which is part of every key; the golden hashes hold it to that.
package data
