/* Open, run and close one compiled model. Weights are mapped, so processes share them; each call in flight has its own arena. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

struct arena { struct arena *next; char *memory; };

struct stack_model {
  const struct stack_program *program;
  char *weights;
  struct stack_pool *pool;
  pthread_mutex_t lock;
  struct arena *idle;
};

static char *map_weights(const char *path, size_t bytes) {
  if (bytes == 0) return "";
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return NULL;
  struct stat status;
  char *memory = NULL;
  if (fstat(file, &status) == 0 && (size_t)status.st_size == bytes) {
    memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED) memory = NULL;
  } else {
    errno = EINVAL;
  }
  close(file);
  return memory;
}

struct stack_model *stack_open(const struct stack_program *program, const char *weights_path, int threads) {
  char *weights = map_weights(weights_path, program->weight_bytes);
  if (!weights) return NULL;
  struct stack_model *model = calloc(1, sizeof *model);
  if (!model) {
    if (program->weight_bytes) munmap(weights, program->weight_bytes);
    return NULL;
  }
  model->program = program;
  model->weights = weights;
  model->pool = stack_pool_new(threads);
  pthread_mutex_init(&model->lock, NULL);
  return model;
}

static struct arena *take_arena(struct stack_model *model) {
  pthread_mutex_lock(&model->lock);
  struct arena *arena = model->idle;
  if (arena) model->idle = arena->next;
  pthread_mutex_unlock(&model->lock);
  if (arena) return arena;
  size_t page = model->program->arena_bytes >= HUGE_PAGE ? HUGE_PAGE : 4096;
  size_t bytes = (model->program->arena_bytes + page - 1) / page * page;
  arena = calloc(1, sizeof *arena);
  if (!arena) return NULL;
  arena->memory = aligned_alloc(page, bytes ? bytes : page);
  if (!arena->memory) { free(arena); return NULL; }
  if (page == HUGE_PAGE) madvise(arena->memory, bytes, MADV_HUGEPAGE);
  return arena;
}

static void give_arena(struct stack_model *model, struct arena *arena) {
  pthread_mutex_lock(&model->lock);
  arena->next = model->idle;
  model->idle = arena;
  pthread_mutex_unlock(&model->lock);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int stack_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds) {
  struct arena *arena = take_arena(model);
  if (!arena) return ENOMEM;
  int code = 0;
  stack_pool_use(model->pool);
  for (int step = 0; code == 0 && step < model->program->steps; ++step) {
    double started = seconds ? now() : 0;
    code = model->program->step(step, model->weights, arena->memory, in, out);
    if (seconds) seconds[step] = now() - started;
  }
  stack_pool_use(NULL);
  give_arena(model, arena);
  return code;
}

int stack_run(struct stack_model *model, const void *const *in, void *const *out) { return stack_profile(model, in, out, NULL); }

void stack_close(struct stack_model *model) {
  if (!model) return;
  stack_pool_free(model->pool);
  while (model->idle) {
    struct arena *arena = model->idle;
    model->idle = arena->next;
    free(arena->memory);
    free(arena);
  }
  if (model->program->weight_bytes) munmap(model->weights, model->program->weight_bytes);
  pthread_mutex_destroy(&model->lock);
  free(model);
}
