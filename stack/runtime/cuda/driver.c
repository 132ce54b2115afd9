/* Find and start the CUDA driver once a process, and remember each thread's last failure. */
#define _GNU_SOURCE
#include "driver.h"
#include "device.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local int last_code;
static _Thread_local char last_text[512];

int stack_fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_text, sizeof last_text, format, arguments);
  va_end(arguments);
  return last_code = code;
}

int stack_error(const char **text) {
  *text = last_text;
  return last_code;
}

static struct stack_driver driver;
static int started; /* what stack_fail() gets on every later call */
static char reason[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    started = STACK_NO_DRIVER;
    snprintf(reason, sizeof reason, "no NVIDIA driver was found (%s)", dlerror());
    return;
  }
#define FIND(name, symbol, parameters) \
  if (!(driver.name = (int(*) parameters)dlsym(library, #symbol))) { \
    started = STACK_NO_DRIVER; \
    snprintf(reason, sizeof reason, "the NVIDIA driver is too old: it has no %s", #symbol); \
    return; \
  }
  CUDA_FUNCTIONS(FIND)
#undef FIND
  int code = driver.init(0);
  if (code) {
    const char *text = "?";
    driver.error_text(code, &text);
    started = code == CUDA_NO_DEVICE ? STACK_NO_GPU : code;
    snprintf(reason, sizeof reason, "the NVIDIA driver does not start: %s", text);
  }
}

const struct stack_driver *stack_driver(void) {
  pthread_once(&once, start);
  if (!started) return &driver;
  stack_fail(started, "%s", reason);
  return NULL;
}
