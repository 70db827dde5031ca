package cuda

// Range names what happens until the function that it returns is called, in the
// timeline of a profiler (nsys, ncu --nvtx). Ranges may overlap and may end in
// another goroutine. Without a profiler it does nothing, at no cost to speak of.
//
//	defer cuda.Range("denoise")()
func Range(name string) func() {
	if !profiled() {
		return nothing
	}
	id := rangeStart(name)
	return func() { rangeEnd(id) }
}

func nothing() {}
