//go:build native && cgo

// fidlab_nvtx_open lets a profiler, if one has started this process, take part; it
// returns whether one wants ranges. It is called once, before the others.
int fidlab_nvtx_open(void);

// fidlab_nvtx_start begins a range of that name and returns its number, which
// fidlab_nvtx_end ends.
unsigned long long fidlab_nvtx_start(const char* name);
void fidlab_nvtx_end(unsigned long long id);
