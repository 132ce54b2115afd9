/* The link to the host over a UART, polled. uart.h, generated from the board file, says which of these UARTs it is, and where. */
#include "harness.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))

#if defined(UART_CMSDK) /* Arm's, on the MPS boards (Arm document DDI 0479, 4.3) */
static void set_up(void) {
    REGISTER(0x10) = UART_DIVIDER;
    REGISTER(0x08) = 3; /* transmit and receive */
}
static int has_byte(void) { return REGISTER(0x04) & 2; }
static uint8_t take(void) { return (uint8_t)REGISTER(0x00); }
static int has_room(void) { return !(REGISTER(0x04) & 1); }
static void put(uint8_t byte) { REGISTER(0x00) = byte; }

#elif defined(UART_STM32) /* USART of the STM32F4 (RM0090, 30.6) */
static void set_up(void) {
    REGISTER(0x08) = UART_DIVIDER;
    REGISTER(0x0C) = 1u << 13 | 1u << 3 | 1u << 2; /* CR1: on, transmit, receive */
}
static int has_byte(void) { return REGISTER(0x00) & 1u << 5; }
static uint8_t take(void) { return (uint8_t)REGISTER(0x04); }
static int has_room(void) { return REGISTER(0x00) & 1u << 7; }
static void put(uint8_t byte) { REGISTER(0x04) = byte; }

#elif defined(UART_STM32_NEW) /* USART and LPUART of the STM32F7 (RM0385, 31.8) and L4 (RM0432, 49.7) */
static void set_up(void) {
    REGISTER(0x0C) = UART_DIVIDER;
    REGISTER(0x00) = 1u << 3 | 1u << 2 | 1u; /* CR1: transmit, receive, on */
}
static int has_byte(void) {
    REGISTER(0x20) = 1u << 3; /* an overrun would block what comes later */
    return REGISTER(0x1C) & 1u << 5;
}
static uint8_t take(void) { return (uint8_t)REGISTER(0x24); }
static int has_room(void) { return REGISTER(0x1C) & 1u << 7; }
static void put(uint8_t byte) { REGISTER(0x28) = byte; }

#elif defined(UART_NRF) /* nRF51 (reference manual 3.0, 29) and nRF52840 (product specification 1.7, 6.33) */
static int sent = 1;
static void set_up(void) {
    REGISTER(0x524) = UART_DIVIDER; /* BAUDRATE */
    REGISTER(0x500) = 4;            /* ENABLE */
    REGISTER(0x000) = 1;            /* STARTRX */
    REGISTER(0x008) = 1;            /* STARTTX */
}
static int has_byte(void) { return REGISTER(0x108) != 0; }
static uint8_t take(void) {
    REGISTER(0x108) = 0; /* before the read, which may raise it again */
    return (uint8_t)REGISTER(0x518);
}
static int has_room(void) {
    if (!sent && REGISTER(0x11C))
        sent = 1;
    return sent;
}
static void put(uint8_t byte) {
    REGISTER(0x11C) = 0;
    REGISTER(0x51C) = byte;
    sent = 0;
}

#elif defined(UART_PL011) /* Arm's PrimeCell, in the RP2040 (datasheet, 4.2.8) */
static void set_up(void) {
    REGISTER(0x24) = UART_DIVIDER >> 6;
    REGISTER(0x28) = UART_DIVIDER & 63;
    REGISTER(0x2C) = 0x70; /* 8 bits, with FIFOs */
    REGISTER(0x30) = 0x301;
}
static int has_byte(void) { return !(REGISTER(0x18) & 1u << 4); }
static uint8_t take(void) { return (uint8_t)REGISTER(0x00); }
static int has_room(void) { return !(REGISTER(0x18) & 1u << 5); }
static void put(uint8_t byte) { REGISTER(0x00) = byte; }
#endif

/* Clocks and pins: the board file's register writes, in order; a step of kind AWAIT polls instead. */
enum { WRITE, AWAIT };

struct step {
    uint32_t kind, address, mask, value;
};

static const struct step steps[] = {UART_SETUP{WRITE, 0, 0, 0}};

void link_open(void) {
    for (const struct step *step = steps; step->address; step++) {
        volatile uint32_t *place = (volatile uint32_t *)step->address;
        if (step->kind == WRITE)
            *place = (*place & ~step->mask) | step->value;
        else
            while ((*place & step->mask) != step->value) {
            }
    }
    set_up();
}

void link_read(void *data, uint32_t bytes) {
    uint8_t *to = data;
    while (bytes--) {
        while (!has_byte()) {
        }
        *to++ = take();
    }
}

void link_write(const void *data, uint32_t bytes) {
    const uint8_t *from = data;
    while (bytes--) {
        while (!has_room()) {
        }
        put(*from++);
    }
}

void link_fault(const char *text) {
    uint32_t length = 0;
    while (text[length])
        length++;
    frame_begin_write('F', length);
    frame_write(text, length);
    frame_end_write();
    for (;;) {
    }
}
