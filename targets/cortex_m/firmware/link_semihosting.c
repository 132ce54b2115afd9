/* The link to the host through two files that QEMU opens in its working directory: Arm's semihosting calls (Arm document 100863). */
#include "harness.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT = 0x18 };
enum { READ_BINARY = 1, WRITE_BINARY = 5 };
enum { APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };

static int32_t from_host, to_host;

static int32_t call(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

static int32_t open_file(const char *name, uint32_t mode) {
    uint32_t length = 0;
    while (name[length])
        length++;
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    return call(SYS_OPEN, arguments);
}

static void leave(uint32_t reason) {
    for (;;)
        call(SYS_EXIT, (const void *)reason);
}

void link_fault(const char *text) {
    call(SYS_WRITE0, text);
    leave(RUN_TIME_ERROR);
    __builtin_unreachable();
}

void link_open(void) {
    from_host = open_file("to_device", READ_BINARY);
    to_host = open_file("from_device", WRITE_BINARY);
    if (from_host < 0 || to_host < 0)
        link_fault("the host's files cannot be opened\n");
}

void link_read(void *data, uint32_t bytes) {
    uint8_t *to = data;
    while (bytes) { /* the host may deliver less at once; the call returns how much is still missing */
        const uint32_t arguments[3] = {(uint32_t)from_host, (uint32_t)to, bytes};
        const uint32_t missing = (uint32_t)call(SYS_READ, arguments);
        if (missing >= bytes)
            leave(APPLICATION_EXIT); /* the host has closed the file */
        to += bytes - missing;
        bytes = missing;
    }
}

void link_write(const void *data, uint32_t bytes) {
    const uint8_t *from = data;
    while (bytes) {
        const uint32_t arguments[3] = {(uint32_t)to_host, (uint32_t)from, bytes};
        const uint32_t missing = (uint32_t)call(SYS_WRITE, arguments);
        if (missing > bytes)
            leave(RUN_TIME_ERROR);
        from += bytes - missing;
        bytes = missing;
    }
}
