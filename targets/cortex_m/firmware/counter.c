/* Processor clocks: DWT's cycle counter where STACK_CYCLES says that the core has one, otherwise SysTick with its wraps counted.
 *
 * QEMU has no DWT; with -icount its SysTick advances by the same time for each instruction, so that ticks are instructions.
 */
#include "harness.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#ifdef STACK_CYCLES
#define DEMCR REGISTER(0xE000EDFCu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define DWT_LAR REGISTER(0xE0001FB0u) /* Cortex-M7 locks its DWT */

void counter_start(int interrupts) {
    (void)interrupts;
    DEMCR |= 1u << 24;
    DWT_LAR = 0xC5ACCE55u;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;
}

uint32_t counter_read(void) { return DWT_CYCCNT; }
#else
#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)

void SysTick_Handler(void);
static volatile uint32_t wraps;

void SysTick_Handler(void) { wraps++; }

void counter_start(int interrupts) {
    SYST_CSR = 0;
    SYST_RVR = 0xFFFFFFu;
    SYST_CVR = 0;
    wraps = 0;
    SYST_CSR = interrupts ? 7u : 5u; /* on, from the processor's clock */
}

uint32_t counter_read(void) {
    uint32_t before, now;
    do { /* again, if it wrapped between the two reads */
        before = wraps;
        now = SYST_CVR;
        __asm volatile("isb" ::: "memory"); /* lets a pending wrap in */
    } while (before != wraps);
    return (before << 24) + (0xFFFFFFu - now);
}
#endif
