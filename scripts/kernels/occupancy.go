package main

// What one multiprocessor holds, CUDA C++ Programming Guide, table of technical
// specifications per compute capability, and the allocation units of NVIDIA's occupancy calculator.
const (
	smRegisters    = 65536
	smWarps        = 64
	smBlocks       = 32
	warpSize       = 32
	registerUnit   = 256 // a warp's registers come in multiples of it
	warpUnit       = 4   // warps are spread over four partitions
	sharedUnit     = 128
	sharedReserved = 1024 // the system's own part of a block's shared memory, from sm_80 on
)

var smShared = map[string]int{"sm_80": 164 << 10, "sm_90a": 228 << 10, "sm_100": 228 << 10}

// arches are the architectures with machine code in each fatbin.
var arches = []string{"sm_80", "sm_90a", "sm_100"}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// occupancy is the percentage of a multiprocessor's 64 warps that run at a
// time, with blocks of so many threads, each with so many registers, and so many bytes of
// shared memory a block (without the system's own). 0 means that not one block fits.
func occupancy(arch string, threads, regs, shared int) float64 {
	warps := roundUp(threads, warpSize) / warpSize
	if warps == 0 || warps > smWarps {
		return 0
	}
	blocks := min(smBlocks, smWarps/warps)
	if regs > 0 {
		perWarp := roundUp(regs*warpSize, registerUnit)
		blocks = min(blocks, smRegisters/warpUnit/perWarp*warpUnit/warps)
	}
	blocks = min(blocks, smShared[arch]/roundUp(shared+sharedReserved, sharedUnit))
	return 100 * float64(blocks*warps) / smWarps
}
