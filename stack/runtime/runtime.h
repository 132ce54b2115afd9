/* What one compiled model and the code that runs it share. Internal: users include the model's own header. */
#ifndef STACK_RUNTIME_H
#define STACK_RUNTIME_H
#include <stddef.h>

/* Iterations of every parallel loop that the emitter writes (stack/emit/parallel_units.py): equal parts of the loop it was made of. */
enum { STACK_UNITS = 128 };

struct stack_pool;

/* Everything the emitter knows about one model. */
struct stack_program {
  size_t weight_bytes, arena_bytes;
  int steps;
  /* Runs operator number `step`; 0, or the code its kernel returned. */
  int (*step)(int step, const char *weights, char *arena, const void *const *in, void *const *out);
};

struct stack_model;

struct stack_model *stack_open(const struct stack_program *program, const char *weights_path, int threads);
int stack_run(struct stack_model *model, const void *const *in, void *const *out);
int stack_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds);
void stack_close(struct stack_model *model);

struct stack_pool *stack_pool_new(int threads);
void stack_pool_free(struct stack_pool *pool);
/* Parallel loops of this thread use `pool` from now on; NULL runs them here, one after the other. */
void stack_pool_use(struct stack_pool *pool);
#endif
