/* The CUDA driver, found when it is first needed: a library links and loads where there is none. Declared after the CUDA Driver API
   reference; ABI versions are the ones that CUDA 12 and 13 headers choose. */
#ifndef STACK_DRIVER_H
#define STACK_DRIVER_H
#include <stddef.h>

typedef unsigned long long device_pointer;
typedef void *handle; /* contexts, modules, functions, streams and events are opaque pointers */

#define CUDA_FUNCTIONS(X) \
  X(init, cuInit, (unsigned flags)) \
  X(device_count, cuDeviceGetCount, (int *count)) \
  X(device_get, cuDeviceGet, (int *device, int ordinal)) \
  X(device_name, cuDeviceGetName, (char *name, int bytes, int device)) \
  X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, int device)) \
  X(context_retain, cuDevicePrimaryCtxRetain, (handle * context, int device)) \
  X(context_release, cuDevicePrimaryCtxRelease_v2, (int device)) \
  X(context_push, cuCtxPushCurrent_v2, (handle context)) \
  X(context_pop, cuCtxPopCurrent_v2, (handle * context)) \
  X(context_synchronize, cuCtxSynchronize, (void)) \
  X(module_load, cuModuleLoadData, (handle * module, const void *image)) \
  X(module_unload, cuModuleUnload, (handle module)) \
  X(module_function, cuModuleGetFunction, (handle * function, handle module, const char *name)) \
  X(function_set, cuFuncSetAttribute, (handle function, int attribute, int value)) \
  X(memory_alloc, cuMemAlloc_v2, (device_pointer * memory, size_t bytes)) \
  X(memory_free, cuMemFree_v2, (device_pointer memory)) \
  X(copy_in, cuMemcpyHtoDAsync_v2, (device_pointer to, const void *from, size_t bytes, handle stream)) \
  X(copy_out, cuMemcpyDtoHAsync_v2, (void *to, device_pointer from, size_t bytes, handle stream)) \
  X(copy, cuMemcpyDtoDAsync_v2, (device_pointer to, device_pointer from, size_t bytes, handle stream)) \
  X(stream_create, cuStreamCreate, (handle * stream, unsigned flags)) \
  X(stream_synchronize, cuStreamSynchronize, (handle stream)) \
  X(stream_destroy, cuStreamDestroy_v2, (handle stream)) \
  X(event_create, cuEventCreate, (handle * event, unsigned flags)) \
  X(event_record, cuEventRecord, (handle event, handle stream)) \
  X(event_milliseconds, cuEventElapsedTime, (float *milliseconds, handle start, handle end)) \
  X(event_destroy, cuEventDestroy_v2, (handle event)) \
  X(launch, cuLaunchKernel, \
    (handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, \
     unsigned shared_bytes, handle stream, void **arguments, void **extra)) \
  X(error_name, cuGetErrorName, (int error, const char **text)) \
  X(error_text, cuGetErrorString, (int error, const char **text))

struct stack_driver {
#define MEMBER(name, symbol, parameters) int(*name) parameters;
  CUDA_FUNCTIONS(MEMBER)
#undef MEMBER
};

enum { STREAM_NON_BLOCKING = 1, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76, MAX_DYNAMIC_SHARED_BYTES = 8 };
enum { CUDA_NO_DEVICE = 100, CUDA_INVALID_DEVICE = 101 };

/* The loaded and initialised driver; NULL after stack_fail(). */
const struct stack_driver *stack_driver(void);

/* Remember a failure of this thread for stack_error(); returns `code`. */
int stack_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
#endif
