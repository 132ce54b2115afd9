/* What the parts of the test harness share: the model's binding, the counter, and the link to the host. */
#ifndef STACK_HARNESS_H
#define STACK_HARNESS_H

#include <stdint.h>

struct buffer {
    void *data;
    uint32_t bytes;
};

/* binding.c, generated for one model: its buffers, in the manifest's order. */
extern const struct buffer model_inputs[], model_outputs[];
extern const uint32_t model_input_count, model_output_count, model_operators;
extern const uint32_t model_identity __attribute__((weak)); /* kernels that are no model have none */
int model_call(void);
void model_restart(void); /* a streaming model's state as at its beginning */
void model_guard(void);
int model_guards_whole(void); /* nothing was written behind an arena */

/* counter.c. Without interrupts the count is right up to 2^24 only, and nothing but the program itself uses the stack. */
void counter_start(int interrupts);
uint32_t counter_read(void);

/* link_semihosting.c or link_uart.c: bytes to and from the host. Neither returns before all is done. */
void link_open(void);
void link_read(void *data, uint32_t bytes);
void link_write(const void *data, uint32_t bytes);
void link_fault(const char *text) __attribute__((noreturn)); /* say why, and stop */

/* frames.c: see targets/cortex_m/protocol.py. */
uint32_t frame_begin_read(uint32_t *bytes); /* the next frame's kind, and how many bytes its payload has */
void frame_read(void *data, uint32_t bytes);
int frame_end_read(void); /* whether the checksum was right */
void frame_begin_write(uint32_t kind, uint32_t bytes);
void frame_write(const void *data, uint32_t bytes);
void frame_end_write(void);

#endif
