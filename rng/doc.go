// Package rng draws reproducible random numbers: Philox4x32-10, a counter-based
// generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011).
//
// There is no state to carry beside a position: word i of a stream is a pure
// function of (seed, stream, i). So image i of seed s has the same bits at any
// batch size and thread count, and a GPU kernel makes the same integers.
//
// The one rule to know: one stream per (seed, image, purpose), made by
// ForImage; a stream is never shared between images, and it is not safe for
// use by several goroutines.
//
//	s := rng.ForImage(seed, uint64(i), rng.Init)
//	s.FillNormal32(x) // the starting noise of image i
//
// Layout of the 128-bit counter: the low 64 bits count blocks of four words,
// the high 64 bits are the stream; the 64-bit key is the seed.
package rng
