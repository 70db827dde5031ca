// Command gpubench times the kernels on a GPU with the device's own events and
// holds each against its roofline: the time that its bytes take at the memory's
// speed or its operations at the units' peak, whichever is longer.
//
//	gpubench                    every case, a table on standard output
//	gpubench -run attn -md t.md -json t.json
//	gpubench -specs s.json      what the peer is to time (scripts/gpu/torch_peer.py reads it)
//	gpubench -torch peer.json   with columns of the peer's times
//	gpubench -once NAME         one case, a few runs only: for the profilers
//	gpubench -info              what device there is
//	gpubench -tests DIR         not a benchmark: sum up the logs of test programs in DIR
//
// A case is timed twice. Cold: before each run 256 MiB are written, so that the
// caches hold nothing of the operands; that is the figure for kernels bound by memory.
// Hot: back to back, so many runs between two events that they take a fifth of
// a millisecond at least; that is the figure for the others. Each is the median
// of at least 20.
//
// FIDLAB_BENCH_TINY=1 makes every case small, for a rehearsal on the host device.
//
// The program is carried to machines without Go, see `make gpu-bench`.
package main
