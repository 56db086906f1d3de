/* Stands in for the CUDA runtime: one device, whose memory is the host's. */
#include <stdlib.h>
#include <string.h>
#include "cuda_runtime.h"

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaMalloc(void **memory, size_t size) { *memory = malloc(size); return cudaSuccess; }
cudaError_t cudaFree(void *memory) { free(memory); return cudaSuccess; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, int kind) { memcpy(to, from, size); return cudaSuccess; }
