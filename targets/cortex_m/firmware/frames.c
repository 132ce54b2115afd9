/* Frames on the link: "SK", kind, 0, length, payload, CRC-32 of all that (zlib's; four bits at a time, with a table of 16). */
#include "harness.h"

static uint32_t checksum;

static void add(const uint8_t *data, uint32_t bytes) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                       0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = checksum;
    while (bytes--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    checksum = crc;
}

void frame_read(void *data, uint32_t bytes) {
    link_read(data, bytes);
    add(data, bytes);
}

uint32_t frame_begin_read(uint32_t *bytes) {
    uint8_t head[4] = {0, 0, 0, 0};
    do { /* whatever a serial line delivers before a frame begins is dropped */
        head[0] = head[1];
        link_read(&head[1], 1);
    } while (head[0] != 'S' || head[1] != 'K');
    link_read(&head[2], 2);
    checksum = 0xFFFFFFFFu;
    add(head, 4);
    frame_read(bytes, 4);
    return head[2];
}

int frame_end_read(void) {
    uint32_t sent;
    link_read(&sent, 4);
    return sent == ~checksum;
}

void frame_write(const void *data, uint32_t bytes) {
    add(data, bytes);
    link_write(data, bytes);
}

void frame_begin_write(uint32_t kind, uint32_t bytes) {
    const uint8_t head[4] = {'S', 'K', (uint8_t)kind, 0};
    checksum = 0xFFFFFFFFu;
    frame_write(head, 4);
    frame_write(&bytes, 4);
}

void frame_end_write(void) {
    const uint32_t crc = ~checksum;
    link_write(&crc, 4);
}
