#include "cobs.h"

#include <stdbool.h>

enum { FULL_BLOCK = 0xFF };

size_t cobs_encode(const uint8_t *in, size_t size, uint8_t *out)
{
    size_t code_at = 0, at = 1;
    uint8_t code = 1;
    for (size_t i = 0; i < size; i++) {
        if (in[i] != 0) {
            out[at++] = in[i];
            code++;
        }
        bool more = i + 1 < size;
        if (in[i] == 0 || (code == FULL_BLOCK && more)) {
            out[code_at] = code;
            code_at = at++;
            code = 1;
        }
    }
    out[code_at] = code;
    return at;
}

size_t cobs_decode(uint8_t *bytes, size_t size)
{
    size_t in = 0, out = 0;
    while (in < size) {
        uint8_t code = bytes[in++];
        if (code == 0 || in + code - 1 > size)
            return COBS_BAD;
        for (uint8_t i = 1; i < code; i++) {
            if (bytes[in] == 0)
                return COBS_BAD;
            bytes[out++] = bytes[in++];
        }
        if (code != FULL_BLOCK && in < size)
            bytes[out++] = 0;
    }
    return out;
}
