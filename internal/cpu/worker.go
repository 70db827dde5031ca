package cpu

// Worker is one of the pool's OS threads; it carries that thread's scratch memory.
type Worker struct {
	ID int
}
