/* The real cuda.h, with five calls held at the versions that gorgonia.org/cu
 * v0.9.6 was written for: since CUDA 13 the header maps their plain names to
 * newer versions with other parameters. libcuda exports every version. The
 * folder of this file comes first on the include path (make env). */
#ifndef FIDLAB_CUDA_H
#define FIDLAB_CUDA_H

#include_next <cuda.h>

#if CUDA_VERSION >= 13000
#undef cuCtxCreate
#undef cuGraphAddDependencies
#undef cuGraphGetEdges
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#define cuCtxCreate cuCtxCreate_v2
CUresult CUDAAPI cuCtxCreate_v2(CUcontext*, unsigned int, CUdevice);
CUresult CUDAAPI cuGraphAddDependencies(CUgraph, const CUgraphNode*, const CUgraphNode*, size_t);
CUresult CUDAAPI cuGraphGetEdges(CUgraph, CUgraphNode*, CUgraphNode*, size_t*);
CUresult CUDAAPI cuMemAdvise(CUdeviceptr, size_t, CUmem_advise, CUdevice);
CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr, size_t, CUdevice, CUstream);
#endif

#endif
