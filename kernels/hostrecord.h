// Recordings of launches, which scripts/sanitize plays again under the sanitizers.
//
//	FIDLAB_HOST_RECORD=DIR            write recordings into DIR
//	FIDLAB_HOST_RECORD_BYTES=N        only launches whose buffers have at most N bytes (1 MiB)
//	FIDLAB_HOST_RECORD_THREADS=N      ... and at most N threads (32768)
//	FIDLAB_HOST_RECORD_COUNT=N        the first N of each kernel and shape class (1)
//
// A class is what a branch of the kernel may depend on: which pointers are null, the sizes of the
// block, grid and numbers to a factor of two.
//
// A recording is a text of lines
//
//	fidlab launch 1
//	kernel NAME
//	class TEXT
//	grid X Y Z
//	block X Y Z
//	shared BYTES
//	microseconds N                           what the launch took
//	parameter TYPE SIZE value HEX            a number, 8 bytes, little end first
//	parameter TYPE SIZE buffer INDEX OFFSET  a pointer into a buffer
//	parameter TYPE SIZE null
//	parameter m 128 map INDEX OFFSET WORD... a tensor map of a buffer, its 16 words in hexadecimal
//	buffer BYTES same|changed
//	data
//
// and the bytes of each buffer before the launch, followed, if it changed, by those after it.
#pragma once
#include <string>
#include <vector>
#include "host.h"

namespace hostdriver {

class Record {
  public:
    Record(const host::Kernel& k, dim3 grid, dim3 block, size_t shared,
           const std::vector<uint64_t>& arguments, const std::vector<TensorMap>& maps);
    void finish(); // after the launch

  private:
    struct Saved {
        unsigned char* at;
        size_t size;
        std::string before;
    };
    const host::Kernel& kernel;
    std::string path;       // empty: this launch is not recorded
    std::string head, tail; // the lines before and after the time
    std::vector<Saved> saved;
    double started = 0; // microseconds
};

} // namespace hostdriver
