/* Runs a model as the host asks, frame by frame, and says what each run cost (targets/cortex_m/protocol.py has the frames).
 *
 * With -DSTACK_PROFILE the model calls stack_profile_step() after each operator; at most WINDOW of them are recorded in one run, which
 * keeps the profiler's memory under 1 KB whatever the model.
 */
#include "harness.h"

enum { HELLO = 'H', RUN = 'R', OUTPUTS = 'O', DAMAGED = 'E' };
enum { RESTART = 1, MEASURE_STACK = 2 };
#define PAINT 0xC0DEFACEu
#define PAINTED_WORDS 4096 /* deeper than any model's stack */

struct request {
    uint32_t flags, first_step;
};

struct answer {
    int32_t status;
    uint32_t count, stack, whole, steps;
};

extern uint32_t stack_limit[]; /* the linker script's end of what is not stack */
static uint32_t overhead;      /* of reading the counter, which no result contains */

#ifdef STACK_PROFILE
#define WINDOW 240
static uint32_t steps[WINDOW], first_step, last;

void stack_profile_step(int step);
void stack_profile_step(int step) {
    const uint32_t now = counter_read(), index = (uint32_t)step - first_step;
    if (index < WINDOW)
        steps[index] = now - last;
    last = counter_read();
}

static uint32_t calibrate_steps(void) {
    first_step = 0;
    last = counter_read();
    stack_profile_step(0);
    stack_profile_step(0);
    return steps[0];
}
#endif

/* The model's status. Paints the stack below, and counts the words that were written over. */
__attribute__((noinline)) static int32_t call_painted(uint32_t *bytes) {
    volatile uint32_t *top, *bottom = stack_limit, *word;
    __asm volatile("mov %0, sp" : "=r"(top));
    if (top - bottom > PAINTED_WORDS)
        bottom = top - PAINTED_WORDS;
    for (word = bottom; word < top; word++)
        *word = PAINT;
    const int32_t status = model_call();
    for (word = bottom; word < top && *word == PAINT;)
        word++;
    *bytes = (uint32_t)(top - word) * 4;
    return status;
}

static void run(const struct request *request) {
    struct answer answer = {0, 0, 0, 0, 0};
    uint32_t bytes = sizeof answer;
    if (request->flags & RESTART)
        model_restart();
    model_guard();
    if (request->flags & MEASURE_STACK) {
        counter_start(0);
        answer.status = call_painted(&answer.stack);
    } else {
        counter_start(1);
#ifdef STACK_PROFILE
        const uint32_t step_overhead = calibrate_steps();
        first_step = request->first_step;
        for (uint32_t i = 0; i < WINDOW; i++)
            steps[i] = 0;
        last = counter_read();
#endif
        const uint32_t begin = counter_read();
        answer.status = model_call();
        answer.count = counter_read() - begin - overhead;
#ifdef STACK_PROFILE
        if (model_operators > first_step)
            answer.steps = model_operators - first_step < WINDOW ? model_operators - first_step : WINDOW;
        for (uint32_t i = 0; i < answer.steps; i++)
            steps[i] = steps[i] > step_overhead ? steps[i] - step_overhead : 0;
#endif
    }
    answer.whole = (uint32_t)model_guards_whole();
    bytes += 4 * answer.steps;
    for (uint32_t i = 0; i < model_output_count; i++)
        bytes += model_outputs[i].bytes;
    frame_begin_write(OUTPUTS, bytes);
    frame_write(&answer, sizeof answer);
    for (uint32_t i = 0; i < model_output_count; i++)
        frame_write(model_outputs[i].data, model_outputs[i].bytes);
#ifdef STACK_PROFILE
    frame_write(steps, 4 * answer.steps);
#endif
    frame_end_write();
}

static uint32_t total(const struct buffer *buffers, uint32_t count) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += buffers[i].bytes;
    return bytes;
}

static void answer_hello(void) {
    const uint32_t facts[4] = {&model_identity ? model_identity : 0, model_operators, total(model_inputs, model_input_count),
                               total(model_outputs, model_output_count)};
    frame_begin_write(HELLO, sizeof facts);
    frame_write(facts, sizeof facts);
    frame_end_write();
}

static void refuse(void) {
    frame_begin_write(DAMAGED, 0);
    frame_end_write();
}

void HardFault_Handler(void);
void HardFault_Handler(void) { link_fault("the firmware faulted\n"); }

int main(void) {
    const uint32_t input_bytes = total(model_inputs, model_input_count);
    link_open();
    model_restart();
    counter_start(1);
    overhead = counter_read();
    overhead = counter_read() - overhead;
    for (;;) {
        struct request request;
        uint32_t bytes;
        const uint32_t kind = frame_begin_read(&bytes);
        if (kind == HELLO && bytes == 0) {
            if (frame_end_read())
                answer_hello();
        } else if (kind == RUN && bytes == sizeof request + input_bytes) {
            frame_read(&request, sizeof request);
            for (uint32_t i = 0; i < model_input_count; i++)
                frame_read(model_inputs[i].data, model_inputs[i].bytes);
            if (frame_end_read())
                run(&request);
            else
                refuse();
        } else {
            refuse();
        }
    }
}
