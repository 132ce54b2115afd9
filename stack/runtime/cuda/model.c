/* Open, run and close one compiled model on an NVIDIA GPU. Weights are on the GPU once a model; each call in flight has its own stream
   and arena, which holds its inputs, intermediates and outputs. */
#define _GNU_SOURCE
#include "device.h"
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>


struct lane { struct lane *next; handle stream; device_pointer arena; };

struct stack_model {
  const struct stack_program *program;
  const struct stack_driver *cuda;
  int device;
  handle context, module, *functions;
  device_pointer weights;
  pthread_mutex_t lock;
  struct lane *idle;
};

/* Return from the enclosing function with the driver's error where a call of it fails. */
#define TRY(call) \
  do { \
    int code_ = (call); \
    if (code_) return driver_failed(cuda, code_, #call); \
  } while (0)

static int driver_failed(const struct stack_driver *cuda, int code, const char *call) {
  const char *name = "?", *text = "?";
  cuda->error_name(code, &name);
  cuda->error_text(code, &text);
  return stack_fail(code, "%s (%s) in %.60s", text, name, call);
}

static int find_gpu(struct stack_model *model, int ordinal) {
  const struct stack_driver *cuda = model->cuda;
  int count = 0, major = 0, minor = 0, wanted = model->program->capability;
  TRY(cuda->device_count(&count));
  if (count == 0) return stack_fail(STACK_NO_GPU, "the NVIDIA driver finds no GPU");
  if (ordinal < 0 || ordinal >= count) return stack_fail(STACK_NO_GPU, "there is no GPU number %d: this machine has %d", ordinal, count);
  TRY(cuda->device_get(&model->device, ordinal));
  TRY(cuda->device_attribute(&major, CAPABILITY_MAJOR, model->device));
  TRY(cuda->device_attribute(&minor, CAPABILITY_MINOR, model->device));
  if (major != wanted / 10 || minor < wanted % 10) { /* machine code serves one major version, from its own minor version up */
    char name[128] = "";
    cuda->device_name(name, sizeof name, model->device);
    return stack_fail(STACK_OTHER_GPU, "the library is for compute capability %d.%d, and this GPU (%s) has %d.%d", wanted / 10, wanted % 10,
                      name, major, minor);
  }
  return 0;
}

static int load_kernels(struct stack_model *model) {
  const struct stack_driver *cuda = model->cuda;
  const struct stack_program *program = model->program;
  TRY(cuda->module_load(&model->module, program->cubin));
  model->functions = calloc((size_t)program->kernels + 1, sizeof *model->functions);
  if (!model->functions) return stack_fail(STACK_NO_MEMORY, "out of memory");
  for (int i = 0; i < program->kernels; ++i) TRY(cuda->module_function(&model->functions[i], model->module, program->kernel_names[i]));
  for (const struct stack_step *step = program->step; step < program->step + program->steps; ++step)
    for (int i = step->first_launch; i < step->first_launch + step->launches; ++i) {
      const struct stack_launch *launch = &program->launches[i];
      if (launch->kernel >= 0 && launch->shared_bytes)
        TRY(cuda->function_set(model->functions[launch->kernel], MAX_DYNAMIC_SHARED_BYTES, (int)launch->shared_bytes));
    }
  return 0;
}

static int copy_weights(struct stack_model *model, const char *path) {
  const struct stack_driver *cuda = model->cuda;
  size_t bytes = model->program->weight_bytes;
  if (bytes == 0) return 0;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return stack_fail(STACK_BAD_WEIGHTS, "%s: %s", path, strerror(errno));
  struct stat status;
  if (fstat(file, &status) || (size_t)status.st_size != bytes) {
    close(file);
    return stack_fail(STACK_BAD_WEIGHTS, "%s: not the weights of this library", path);
  }
  void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
  close(file);
  if (memory == MAP_FAILED) return stack_fail(STACK_BAD_WEIGHTS, "%s: %s", path, strerror(errno));
  int code = cuda->memory_alloc(&model->weights, bytes);
  if (!code) code = cuda->copy_in(model->weights, memory, bytes, NULL);
  if (!code) code = cuda->context_synchronize();
  munmap(memory, bytes);
  return code ? driver_failed(cuda, code, "copying the weights to the GPU") : 0;
}

static int open_on_gpu(struct stack_model *model, const char *weights_path, int ordinal) {
  const struct stack_driver *cuda = model->cuda;
  int code = find_gpu(model, ordinal);
  if (code) return code;
  TRY(cuda->context_retain(&model->context, model->device));
  TRY(cuda->context_push(model->context));
  handle popped;
  code = load_kernels(model);
  if (!code) code = copy_weights(model, weights_path);
  cuda->context_pop(&popped);
  return code;
}

struct stack_model *stack_open(const struct stack_program *program, const char *weights_path, int device) {
  const struct stack_driver *cuda = stack_driver();
  if (!cuda) return NULL;
  struct stack_model *model = calloc(1, sizeof *model);
  if (!model) {
    stack_fail(STACK_NO_MEMORY, "out of memory");
    return NULL;
  }
  model->program = program;
  model->cuda = cuda;
  pthread_mutex_init(&model->lock, NULL);
  if (open_on_gpu(model, weights_path, device) == 0) return model;
  stack_close(model);
  return NULL;
}

static int new_lane(struct stack_model *model, struct lane *lane) {
  const struct stack_driver *cuda = model->cuda;
  TRY(cuda->stream_create(&lane->stream, STREAM_NON_BLOCKING));
  TRY(cuda->memory_alloc(&lane->arena, model->program->arena_bytes ? model->program->arena_bytes : 1));
  return 0;
}

static void free_lane(struct stack_model *model, struct lane *lane) {
  if (lane->arena) model->cuda->memory_free(lane->arena);
  if (lane->stream) model->cuda->stream_destroy(lane->stream);
  free(lane);
}

static struct lane *take_lane(struct stack_model *model) {
  pthread_mutex_lock(&model->lock);
  struct lane *lane = model->idle;
  if (lane) model->idle = lane->next;
  pthread_mutex_unlock(&model->lock);
  if (lane) return lane;
  if (!(lane = calloc(1, sizeof *lane))) {
    stack_fail(STACK_NO_MEMORY, "out of memory");
    return NULL;
  }
  if (new_lane(model, lane) == 0) return lane;
  free_lane(model, lane);
  return NULL;
}

static void give_lane(struct stack_model *model, struct lane *lane) {
  pthread_mutex_lock(&model->lock);
  lane->next = model->idle;
  model->idle = lane;
  pthread_mutex_unlock(&model->lock);
}

static int start(struct stack_model *model, const struct lane *lane, const struct stack_launch *launch) {
  const struct stack_driver *cuda = model->cuda;
  device_pointer pointers[STACK_MOST_ARGUMENTS];
  void *arguments[STACK_MOST_ARGUMENTS + 1];
  for (int i = 0; i < launch->arguments; ++i) {
    const struct stack_place *place = &model->program->arguments[launch->first_argument + i];
    pointers[i] = (place->base == STACK_WEIGHTS ? model->weights : lane->arena) + place->offset;
    arguments[i] = &pointers[i];
  }
  arguments[launch->arguments] = NULL;
  if (launch->kernel < 0) {
    TRY(cuda->copy(pointers[1], pointers[0], launch->bytes, lane->stream));
    return 0;
  }
  const unsigned *grid = launch->grid, *block = launch->block;
  TRY(cuda->launch(model->functions[launch->kernel], grid[0], grid[1], grid[2], block[0], block[1], block[2], launch->shared_bytes,
                   lane->stream, arguments, NULL));
  return 0;
}

static int compute(struct stack_model *model, const struct lane *lane, const void *const *in, void *const *out, handle *events) {
  const struct stack_driver *cuda = model->cuda;
  const struct stack_program *program = model->program;
  for (int i = 0; i < program->inputs; ++i)
    TRY(cuda->copy_in(lane->arena + program->input[i].offset, in[i], program->input[i].bytes, lane->stream));
  if (events) TRY(cuda->event_record(events[0], lane->stream));
  for (int step = 0; step < program->steps; ++step) {
    int first = program->step[step].first_launch;
    for (int i = first; i < first + program->step[step].launches; ++i) {
      int code = start(model, lane, &program->launches[i]);
      if (code) return code;
    }
    if (events) TRY(cuda->event_record(events[step + 1], lane->stream));
  }
  for (int i = 0; i < program->outputs; ++i)
    TRY(cuda->copy_out(out[i], lane->arena + program->output[i].offset, program->output[i].bytes, lane->stream));
  TRY(cuda->stream_synchronize(lane->stream));
  return 0;
}

static int compute_timed(struct stack_model *model, const struct lane *lane, const void *const *in, void *const *out, double *seconds) {
  const struct stack_driver *cuda = model->cuda;
  int steps = model->program->steps, made = 0, code = 0;
  handle *events = calloc((size_t)steps + 1, sizeof *events);
  if (!events) return stack_fail(STACK_NO_MEMORY, "out of memory");
  while (!code && made <= steps)
    if ((code = cuda->event_create(&events[made], 0)) == 0) ++made;
  if (code) driver_failed(cuda, code, "creating events");
  else code = compute(model, lane, in, out, events);
  for (int step = 0; !code && step < steps; ++step) {
    float milliseconds = 0;
    code = cuda->event_milliseconds(&milliseconds, events[step], events[step + 1]);
    if (code) driver_failed(cuda, code, "reading events");
    seconds[step] = 1e-3 * (double)milliseconds;
  }
  while (made > 0) cuda->event_destroy(events[--made]);
  free(events);
  return code;
}

int stack_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds) {
  const struct stack_driver *cuda = model->cuda;
  TRY(cuda->context_push(model->context));
  struct lane *lane = take_lane(model);
  int code;
  const char *text;
  if (!lane) code = stack_error(&text);
  else code = seconds ? compute_timed(model, lane, in, out, seconds) : compute(model, lane, in, out, NULL);
  if (lane && code) {
    cuda->stream_synchronize(lane->stream); /* nothing may still read the caller's arrays */
    free_lane(model, lane);
  } else if (lane) {
    give_lane(model, lane);
  }
  handle popped;
  cuda->context_pop(&popped);
  return code;
}

void stack_close(struct stack_model *model) {
  if (!model) return;
  handle popped;
  if (model->context && model->cuda->context_push(model->context) == 0) {
    while (model->idle) {
      struct lane *lane = model->idle;
      model->idle = lane->next;
      free_lane(model, lane);
    }
    if (model->weights) model->cuda->memory_free(model->weights);
    if (model->module) model->cuda->module_unload(model->module);
    model->cuda->context_pop(&popped);
  }
  if (model->context) model->cuda->context_release(model->device);
  pthread_mutex_destroy(&model->lock);
  free(model->functions);
  free(model);
}
