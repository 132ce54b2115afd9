/* A stand-in for the NVIDIA driver that runs generated kernels on the CPU, one block after the other, each thread a fiber.
   Built as libcuda.so.1 together with the kernels, so that a library finds it where the driver would be. Device memory is host memory with
   a red zone behind each allocation; a kernel that misses its barriers or writes past the end fails the launch.
   FAKE_GPUS and FAKE_CAPABILITY (two digits) say what machine to pretend to be, FAKE_FAILS which call fails. */
#include "cuda.h"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

enum State { RUNNING, AT_BLOCK_BARRIER, AT_WARP_EXCHANGE, DONE };
enum { STACK_BYTES = 64 << 10, WARP = 32, RED_ZONE = 256, MOST_ARGUMENTS = 32 };
enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

struct Fiber {
  ucontext_t context;
  State state;
  dim3 index;
  int number;
  unsigned char slots[2][16];
  int turn;
  void *stack;
};

std::vector<Fiber> fibers;
ucontext_t scheduler;
Fiber *current;
void **kernel_arguments;
void (*kernel)(...);

typedef void (*Kernel)(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                       void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                       void *, void *);

void enter() {
  void **a = kernel_arguments; /* a kernel takes fewer; the rest is harmless in the C calling convention */
  ((Kernel)kernel)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17], a[18],
                   a[19], a[20], a[21], a[22], a[23], a[24], a[25], a[26], a[27], a[28], a[29], a[30], a[31]);
  current->state = DONE;
}

void wait(State state) {
  Fiber *self = current;
  self->state = state;
  swapcontext(&self->context, &scheduler);
}

bool waiting_or_done(size_t first, size_t last) {
  for (size_t i = first; i < last; ++i)
    if (fibers[i].state == RUNNING) return false;
  return true;
}

bool release(size_t first, size_t last, State state) {
  bool any = false;
  for (size_t i = first; i < last; ++i)
    if (fibers[i].state == state) { fibers[i].state = RUNNING; any = true; }
  return any;
}

/* Runs one block; false where threads wait for a barrier that others never reach. */
bool run_block() {
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber &fiber = fibers[i];
    unsigned n = (unsigned)i;
    fiber.state = RUNNING;
    fiber.number = (int)i;
    fiber.turn = 0;
    fiber.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
    if (!fiber.stack) fiber.stack = malloc(STACK_BYTES);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
  }
  for (;;) {
    for (Fiber &fiber : fibers)
      if (fiber.state == RUNNING) {
        current = &fiber;
        threadIdx = fiber.index;
        swapcontext(&scheduler, &fiber.context);
      }
    bool any = false;
    for (size_t first = 0; first < fibers.size(); first += WARP)
      any |= release(first, std::min(first + WARP, fibers.size()), AT_WARP_EXCHANGE);
    if (any) continue;
    bool all_done = true, none_done = true;
    for (Fiber &fiber : fibers) (fiber.state == DONE ? none_done : all_done) = false;
    if (all_done) return true;
    if (!none_done || !release(0, fibers.size(), AT_BLOCK_BARRIER)) return false;
  }
}

std::map<unsigned char *, size_t> allocations;

bool red_zones_whole() {
  for (auto &[memory, bytes] : allocations)
    for (size_t i = 0; i < RED_ZONE; ++i)
      if (memory[bytes + i] != 0xA5) return false;
  return true;
}

bool on_device(unsigned long long address) {
  auto next = allocations.upper_bound((unsigned char *)address);
  if (next == allocations.begin()) return false;
  --next;
  return (unsigned char *)address <= next->first + next->second;
}

bool fails(const char *call) {
  const char *wanted = getenv("FAKE_FAILS");
  return wanted && !std::strcmp(wanted, call);
}

int setting(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

}  // namespace

void block_barrier() { wait(AT_BLOCK_BARRIER); threadIdx = current->index; }
int lane() { return current->number % WARP; }

const void *warp_exchange(const void *value, unsigned bytes, int source) {
  Fiber *self = current;
  int turn = self->turn; /* two slots in turn: a neighbour may write its next value before we have read this one */
  self->turn = !turn;
  std::memcpy(self->slots[turn], value, bytes);
  wait(AT_WARP_EXCHANGE);
  threadIdx = self->index;
  size_t other = (size_t)(self->number / WARP * WARP + source);
  return source >= 0 && source < WARP && other < fibers.size() ? fibers[other].slots[turn] : nullptr;
}

extern "C" {
typedef unsigned long long Address;

int cuInit(unsigned) { return setting("FAKE_GPUS", 1) ? 0 : NO_DEVICE; }
int cuDeviceGetCount(int *count) { *count = setting("FAKE_GPUS", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int bytes, int) { snprintf(name, (size_t)bytes, "Fake GPU"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
  int capability = setting("FAKE_CAPABILITY", 90);
  *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 0;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) { *context = &scheduler; return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxPushCurrent_v2(void *) { return 0; }
int cuCtxPopCurrent_v2(void **) { return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuModuleLoadData(void **module, const void *image) {
  *module = &scheduler;
  return std::memcmp(image, "\x7f" "ELF", 4) ? INVALID_VALUE : 0;
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  Dl_info self;
  dladdr((void *)cuInit, &self);
  void *here = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  *function = dlsym(here, name);
  dlclose(here);
  return *function ? 0 : NOT_FOUND;
}
int cuFuncSetAttribute(void *, int, int) { return 0; }
int cuMemAlloc_v2(Address *address, size_t bytes) {
  if (fails("cuMemAlloc")) return OUT_OF_MEMORY;
  unsigned char *memory = (unsigned char *)aligned_alloc(256, (bytes + RED_ZONE + 255) / 256 * 256);
  std::memset(memory, 0xA5, bytes + RED_ZONE); /* what was never written must not look like zero */
  allocations[memory] = bytes;
  *address = (Address)memory;
  return 0;
}
int cuMemFree_v2(Address address) { allocations.erase((unsigned char *)address); free((void *)address); return 0; }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *) { std::memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *) { std::memcpy(to, (void *)from, bytes); return 0; }
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *) { std::memcpy((void *)to, (void *)from, bytes); return 0; }
int cuStreamCreate(void **stream, unsigned) { *stream = &scheduler; return 0; }
int cuStreamSynchronize(void *) { return 0; }
int cuStreamDestroy_v2(void *) { return 0; }
int cuEventCreate(void **event, unsigned) { *event = &scheduler; return 0; }
int cuEventRecord(void *, void *) { return 0; }
int cuEventElapsedTime(float *milliseconds, void *, void *) { *milliseconds = 0.5f; return 0; }
int cuEventDestroy_v2(void *) { return 0; }
int cuGetErrorName(int, const char **text) { *text = "CUDA_ERROR_FAKE"; return 0; }
int cuGetErrorString(int code, const char **text) {
  *text = code == NO_DEVICE ? "no CUDA-capable device is detected" : code == OUT_OF_MEMORY ? "out of memory" : "fake failure";
  return 0;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *,
                   void **arguments, void **) {
  if (fails("cuLaunchKernel")) return LAUNCH_FAILED;
  void *values[MOST_ARGUMENTS] = {};
  Dl_info self;
  if (bx * by * bz > 1024 || gx * gy * gz == 0 || !dladdr(function, &self)) return INVALID_VALUE;
  for (int i = 0; i < MOST_ARGUMENTS; ++i) {
    if (!arguments[i]) break;
    values[i] = *(void **)arguments[i];
    if (!on_device((Address)values[i])) return INVALID_VALUE;
  }
  kernel = (void (*)(...))function;
  kernel_arguments = values;
  gridDim = {gx, gy, gz};
  blockDim = {bx, by, bz};
  if (fibers.size() != (size_t)bx * by * bz) {
    for (Fiber &fiber : fibers) free(fiber.stack);
    fibers.assign((size_t)bx * by * bz, Fiber{});
  }
  for (unsigned z = 0; z < gz; ++z)
    for (unsigned y = 0; y < gy; ++y)
      for (unsigned x = 0; x < gx; ++x) {
        blockIdx = {x, y, z};
        if (!run_block()) return LAUNCH_FAILED;
      }
  return red_zones_whole() ? 0 : LAUNCH_FAILED;
}
}
