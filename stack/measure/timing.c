/* Calls a kernel again and again, each time with the caches as a network would leave them, and tells the seconds of each call.
   Linked with stack/runtime/pool.c into the library that measuring processes load. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime.h"

#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST = 32 }; /* arguments of a kernel; stack/measure/native.py says the same */

/* With more arguments than the kernel has: in the System V ABI for x86-64 the caller frees them, so it does not notice. */
int stack_call(void *kernel, void *const *a) {
  typedef int (*many)(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                      void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                      void *, void *);
  return ((many)kernel)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17],
                        a[18], a[19], a[20], a[21], a[22], a[23], a[24], a[25], a[26], a[27], a[28], a[29], a[30], a[31]);
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static long preemptions(void) {
  struct rusage used;
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_nivcsw;
}

/* One line after the other read and written, as the layer before would have left them. */
static void touch(volatile unsigned char *bytes, uint64_t count) {
  for (uint64_t index = 0; index < count; index += 64) bytes[index] = bytes[index];
}

/* `runs` calls; call number r, counted on from `first`, has the arguments of set r % sets, each MOST pointers. `touched` are pairs of an
   address and a number of bytes. Calls during which the system took the core away count as -1 second. Returns the first code but 0. */
int stack_time(void *kernel, void *const *arguments, int sets, int first, int runs, void *const *touched, int touches, double *seconds) {
  double idle = 1.0;
  for (int try = 0; try < 8; ++try) {
    double begin = now(), end = now();
    if (end - begin < idle) idle = end - begin;
  }
  for (int run = 0; run < runs; ++run) {
    for (int index = 0; index < touches; ++index) touch(touched[2 * index], (uint64_t)(uintptr_t)touched[2 * index + 1]);
    void *const *set = arguments + (int64_t)MOST * ((first + run) % sets);
    long before = preemptions();
    double begin = now();
    int code = stack_call(kernel, set);
    double end = now();
    if (code) return code;
    seconds[run] = preemptions() == before ? (end - begin > idle ? end - begin - idle : 1e-9) : -1.0;
  }
  return 0;
}
