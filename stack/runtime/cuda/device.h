/* What one compiled model and the code that runs it on an NVIDIA GPU share. Internal: users include the model's own header. */
#ifndef STACK_DEVICE_H
#define STACK_DEVICE_H
#include <stddef.h>

enum { STACK_WEIGHTS, STACK_ARENA };
enum { STACK_MOST_ARGUMENTS = 128 };

/* A place in device memory. */
struct stack_place { int base; size_t offset; };

/* One kernel launch; where `kernel` is -1, a copy of `bytes` from the first argument to the second. */
struct stack_launch {
  int kernel;
  unsigned grid[3], block[3], shared_bytes;
  int first_argument, arguments;
  size_t bytes;
};

struct stack_step { int first_launch, launches; };
struct stack_tensor { size_t offset, bytes; }; /* an input or output, in the arena */

/* Everything the emitter knows about one model. */
struct stack_program {
  size_t weight_bytes, arena_bytes;
  int capability; /* 90 for 9.0 */
  const unsigned char *cubin;
  int kernels, steps, inputs, outputs;
  const char *const *kernel_names;
  const struct stack_place *arguments;
  const struct stack_launch *launches;
  const struct stack_step *step;
  const struct stack_tensor *input, *output;
};

/* What went wrong, for callers that tell the cases apart; above 0 it is the driver's own number. */
enum { STACK_NO_DRIVER = -1, STACK_NO_GPU = -2, STACK_OTHER_GPU = -3, STACK_BAD_WEIGHTS = -4, STACK_NO_MEMORY = -5 };

struct stack_model;

struct stack_model *stack_open(const struct stack_program *program, const char *weights_path, int device);
int stack_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds);
void stack_close(struct stack_model *model);
int stack_error(const char **text);
#endif
