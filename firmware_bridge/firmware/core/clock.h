/* Clock: a hardware counter of 16 or 32 bits as 64-bit microseconds that never fall back.
 *
 * In: the counter's value, asked for at least once a turn (65 ms for 16 bits at 1 MHz).
 * Out: microseconds since reset. Never: touches hardware. */
#ifndef OTOLITH_CLOCK_H
#define OTOLITH_CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t time_us;
    uint32_t count;
    uint32_t mask; /* 0xFFFF on an F103, 0xFFFFFFFF where the timer has 32 bits */
};

/* The counter is at `count`, and it is `count` microseconds late. Not from two contexts at once. */
static inline uint64_t clock_advance(struct clock *clock, uint32_t count)
{
    clock->time_us += (count - clock->count) & clock->mask;
    clock->count = count & clock->mask;
    return clock->time_us;
}

#endif
