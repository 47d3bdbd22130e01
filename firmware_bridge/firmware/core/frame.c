#include "frame.h"

#include "bytes.h"
#include "cobs.h"
#include "crc32.h"

void receiver_reset(struct receiver *receiver)
{
    *receiver = (struct receiver){0};
}

/* What lies between two 00. */
static size_t receiver_complete(struct receiver *receiver)
{
    size_t size = cobs_decode(receiver->bytes, receiver->size);
    if (size == COBS_BAD) {
        receiver->bad_cobs++;
        return 0;
    }
    if (size < HEAD_BYTES + CRC_BYTES || crc32(0, receiver->bytes, size) != CRC32_RESIDUE) {
        receiver->bad_crc++;
        return 0;
    }
    receiver->frames++;
    return size - CRC_BYTES;
}

size_t receiver_take(struct receiver *receiver, uint8_t byte)
{
    if (byte != 0) {
        if (receiver->size < MAX_ENCODED_BYTES)
            receiver->bytes[receiver->size++] = byte;
        else
            receiver->skipping = true;
        return 0;
    }
    size_t size = 0;
    if (receiver->skipping)
        receiver->oversize++;
    else if (receiver->size > 0)
        size = receiver_complete(receiver);
    receiver->size = 0;
    receiver->skipping = false;
    return size;
}

size_t frame_seal(uint8_t *body, size_t size, uint8_t *wire)
{
    put_u32(body + size, crc32(0, body, size));
    size_t encoded = cobs_encode(body, size + CRC_BYTES, wire);
    wire[encoded] = 0;
    return encoded + 1;
}
