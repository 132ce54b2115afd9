/* The part of the CUDA language that our generated kernels use, as C++ for the CPU: a test compiles the very source that nvcc gets.
   Each CUDA thread is a fiber; see libcuda.cpp. Found before the toolkit's own cuda.h, which the generated source includes. */
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

struct dim3 { unsigned x, y, z; };
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

void block_barrier();
const void *warp_exchange(const void *value, unsigned bytes, int source_lane); /* NULL where no thread has that lane */
int lane();

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static /* one block runs at a time */
#define __align__(n) __attribute__((aligned(n)))
#define __syncthreads() block_barrier()
#define __syncwarp(...) ((void)warp_exchange(&threadIdx, 1, 0))
#define __activemask() 0xffffffffu

template <typename T> T shuffle(T value, int source, int width) {
  int first = lane() / width * width;
  const void *found = warp_exchange(&value, sizeof value, source);
  T result = value;
  if (found && source >= first && source < first + width) std::memcpy(&result, found, sizeof result);
  return result;
}
template <typename T> T __shfl_sync(unsigned, T value, int source, int width = 32) {
  return shuffle(value, lane() / width * width + source % width, width);
}
template <typename T> T __shfl_down_sync(unsigned, T value, int delta, int width = 32) { return shuffle(value, lane() + delta, width); }
template <typename T> T __shfl_up_sync(unsigned, T value, int delta, int width = 32) { return shuffle(value, lane() - delta, width); }
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) { return shuffle(value, lane() ^ mask, width); }

#define VECTORS(T) \
  struct T##1 { T x; }; \
  struct alignas(2 * sizeof(T)) T##2 { T x, y; }; \
  struct T##3 { T x, y, z; }; \
  struct alignas(4 * sizeof(T)) T##4 { T x, y, z, w; }; \
  static inline T##2 make_##T##2(T x, T y) { return {x, y}; } \
  static inline T##3 make_##T##3(T x, T y, T z) { return {x, y, z}; } \
  static inline T##4 make_##T##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float)
VECTORS(double)
VECTORS(int)
VECTORS(char)
VECTORS(short)
#undef VECTORS
typedef struct alignas(8) { unsigned x, y; } uint2;
typedef struct alignas(16) { unsigned x, y, z, w; } uint4;

using std::max;
using std::min;
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }

/* `__shared__ alignas(64) float x[576];` is in an order that g++ takes for attributes alone. Last, since headers use the keyword. */
#define alignas(n) __attribute__((aligned(n)))
