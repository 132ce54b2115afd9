/* Start-up: from reset to main(), on any Cortex-M core.
 *
 * The linker script gives the symbols. Handlers have CMSIS's names and are weak, so defining a function of that name replaces one;
 * SystemInit(), run before anything else, is the place for clocks and pins. An interrupt of the device's own reaches Device_Handler()
 * with its number, where STACK_INTERRUPTS says how many the device has.
 */
#include <stdint.h>

#ifndef STACK_INTERRUPTS
#define STACK_INTERRUPTS 0
#endif

#define WEAK __attribute__((weak))
#define VTOR (*(volatile uint32_t *)0xE000ED08u)
#define CPACR (*(volatile uint32_t *)0xE000ED88u) /* who may use the FPU and Helium */

extern uint32_t stack_data_load[], stack_data_start[], stack_data_end[], stack_bss_start[], stack_bss_end[], stack_top[];

int main(void);
void Reset_Handler(void);
void Default_Handler(void);
void SystemInit(void);
void HardFault_Handler(void) WEAK;
void NMI_Handler(void) __attribute__((weak, alias("Default_Handler")));
void MemManage_Handler(void) __attribute__((weak, alias("HardFault_Handler")));
void BusFault_Handler(void) __attribute__((weak, alias("HardFault_Handler")));
void UsageFault_Handler(void) __attribute__((weak, alias("HardFault_Handler")));
void SecureFault_Handler(void) __attribute__((weak, alias("HardFault_Handler")));
void SVC_Handler(void) __attribute__((weak, alias("Default_Handler")));
void DebugMon_Handler(void) __attribute__((weak, alias("Default_Handler")));
void PendSV_Handler(void) __attribute__((weak, alias("Default_Handler")));
void SysTick_Handler(void) __attribute__((weak, alias("Default_Handler")));

typedef union {
    void (*handler)(void);
    void *pointer;
} vector;

#if STACK_INTERRUPTS
void Device_Handler(int number);

WEAK void Device_Handler(int number) {
    (void)number;
    Default_Handler();
}

static void device_interrupt(void) {
    uint32_t active;
    __asm volatile("mrs %0, ipsr" : "=r"(active));
    Device_Handler((int)active - 16);
}
#endif

extern const vector stack_vectors[16 + STACK_INTERRUPTS];
__attribute__((section(".vectors"), used)) const vector stack_vectors[16 + STACK_INTERRUPTS] = {
    {.pointer = stack_top},
    {Reset_Handler},
    {NMI_Handler},
    {HardFault_Handler},
    {MemManage_Handler},
    {BusFault_Handler},
    {UsageFault_Handler},
    {SecureFault_Handler},
    {0},
    {0},
    {0},
    {SVC_Handler},
    {DebugMon_Handler},
    {0},
    {PendSV_Handler},
    {SysTick_Handler},
#if STACK_INTERRUPTS
    [16 ... 15 + STACK_INTERRUPTS] = {device_interrupt},
#endif
};

WEAK void SystemInit(void) {}

void Default_Handler(void) {
    for (;;) {
    }
}

WEAK void HardFault_Handler(void) {
    for (;;) {
    }
}

void Reset_Handler(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0xFu << 20; /* coprocessors 10 and 11, for all code; before any function that might touch them */
    __asm volatile("dsb\n\tisb" ::: "memory");
#endif
#ifndef __ARM_ARCH_6M__
    VTOR = (uint32_t)stack_vectors; /* a bootloader may have left its own there */
#endif
    SystemInit();
    const uint32_t *from = stack_data_load;
    for (uint32_t *to = stack_data_start; to < stack_data_end;)
        *to++ = *from++;
    for (uint32_t *to = stack_bss_start; to < stack_bss_end;)
        *to++ = 0;
    main();
    Default_Handler();
}
