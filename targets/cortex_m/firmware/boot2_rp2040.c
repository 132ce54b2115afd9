/* The RP2040's second stage: 256 bytes at the beginning of flash, which the chip's ROM copies to RAM, checks and runs (datasheet, 2.8.1).
 *
 * It sets the flash interface up so that any serial flash can be read in place with its plain read command (4.10), and starts the program
 * behind it. The last word is the checksum that the ROM compares: CRC-32, polynomial 0x04C11DB7, most significant bit first, from ones.
 */
__asm(
    ".syntax unified\n"
    ".section .boot2, \"ax\"\n"
    ".balign 4\n"
    "second_stage:\n"
    "ldr r3, =0x18000000\n" /* the SSI */
    "movs r0, #0\n"
    "str r0, [r3, #0x08]\n" /* SSIENR: off */
    "movs r0, #4\n"
    "str r0, [r3, #0x14]\n" /* BAUDR: clk_sys / 4 */
    "ldr r0, =0x001f0300\n" /* CTRLR0: 32 bits a frame, read with command */
    "str r0, [r3, #0x00]\n"
    "movs r0, #0\n"
    "str r0, [r3, #0x04]\n" /* CTRLR1: one frame */
    "ldr r0, =0x03000218\n" /* SPI_CTRLR0: command 03h of 8 bits, address of 24 */
    "ldr r1, =0x180000f4\n"
    "str r0, [r1]\n"
    "movs r0, #1\n"
    "str r0, [r3, #0x08]\n" /* SSIENR: on */
    "ldr r0, =0x10000100\n" /* the vector table */
    "ldr r1, =0xe000ed08\n"
    "str r0, [r1]\n" /* VTOR */
    "ldmia r0, {r0, r1}\n"
    "msr msp, r0\n"
    "bx r1\n"
    ".pool\n"
    ".org second_stage + 252\n"
    ".word 0xbed2932e\n"
    ".text\n");

typedef int second_stage_is_assembly; /* ISO C wants a declaration in every file */
