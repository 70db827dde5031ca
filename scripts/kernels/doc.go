// Command kernels is the workshop of the CUDA kernels in kernels/.
//
//	go run ./scripts/kernels build      compile each kernels/*.cu into kernels/bin
//	go run ./scripts/kernels check      do the compiled kernels belong to the sources? (-rebuild compiles them again)
//	go run ./scripts/kernels generate   write the launchers and the host device's includes (-check only compares)
//	go run ./scripts/kernels report     registers, shared memory, occupancy, instructions; hold them against the contracts
//	go run ./scripts/kernels doc        write docs/KERNELS.md (-check only compares)
//	go run ./scripts/kernels lines DIR  compile with line numbers into DIR, with an overlay.json for go build, for the profilers
//
// A kernel file may name entry points only in the form that toolchain and
// launchers understand, and each entry point is covered by one contract, a
// comment that starts with "// name - title" and has the fields kernels,
// shapes, launch, bound, expect, repro and twin (params, source and note where
// they help). "arch sm_90a" compiles a file for that architecture alone, without
// PTX. Every complaint names file and line.
//
// What a compilation gave is recorded beside it: kernels/bin/X.json has the
// hash of all that went into X.fatbin, its own hash, and what the
// disassembler says of each kernel on each architecture. So most checks need
// no compiler.
package main
