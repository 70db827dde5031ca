package cuda

// Ptr is an address in a GPU's memory; 0 is none.
type Ptr uint64

// Grid is the shape of a launch: X×Y×Z blocks of BX×BY×BZ threads, with Shared
// bytes of dynamic shared memory for each block.
type Grid struct{ X, Y, Z, BX, BY, BZ, Shared int }

// Grid1 is the one-dimensional grid that covers n items, perBlock of them by
// each block of that many threads; empty when n is 0.
func Grid1(n, perBlock, threads int) Grid {
	return Grid{X: (n + perBlock - 1) / perBlock, Y: 1, Z: 1, BX: threads, BY: 1, BZ: 1}
}

// Stream is a queue of work on a GPU.
type Stream struct{}
