/* Ring: bytes from an interrupt to the main loop.
 *
 * One producer, one consumer, no lock: each side writes only its own index. Holds RING_BYTES;
 * what comes when it is full is counted and gone.
 *
 *     taken          pushed                 indices run on for ever, modulo 2^32;
 *     v              v                      pushed - taken is what is in it
 *   ..[x][x][x][x][x].. */
#ifndef OTOLITH_RING_H
#define OTOLITH_RING_H

#include <stdbool.h>
#include <stdint.h>

enum { RING_BYTES = 512 }; /* a power of two; 5.5 ms at 921600 baud */

struct ring {
    volatile uint32_t pushed, taken, overruns;
    uint8_t bytes[RING_BYTES];
};

static inline uint32_t ring_level(const struct ring *ring)
{
    return ring->pushed - ring->taken;
}

/* From the interrupt. */
static inline void ring_push(struct ring *ring, uint8_t byte)
{
    uint32_t pushed = ring->pushed;
    if (pushed - ring->taken >= RING_BYTES) {
        ring->overruns++;
        return;
    }
    ring->bytes[pushed % RING_BYTES] = byte;
    /* The byte is in memory before the index says so: a compiler may not swap them. */
    __asm__ volatile("" ::: "memory");
    ring->pushed = pushed + 1;
}

/* From the main loop. False if there is nothing. */
static inline bool ring_take(struct ring *ring, uint8_t *byte)
{
    uint32_t taken = ring->taken;
    if (ring->pushed == taken)
        return false;
    __asm__ volatile("" ::: "memory");
    *byte = ring->bytes[taken % RING_BYTES];
    __asm__ volatile("" ::: "memory");
    ring->taken = taken + 1;
    return true;
}

#endif
