/* Sensor: what one stream of samples comes from, whatever the chip.
 *
 * In: a board to reach the chip through, the board's time. Out: rows of three int16 numbers in the
 * order in which they were taken, and flags that say what is wrong with them.
 * Never: invents a row, waits for a row. Only `self_test` may take long (a quarter of a second). */
#ifndef OTOLITH_SENSOR_H
#define OTOLITH_SENSOR_H

#include "board.h"
#include "protocol.h"

enum {
    CHANNELS = 3,
    /* What one `read` may give: an ADXL345's FIFO and the sample behind it. */
    SENSOR_MAX_ROWS = 33,
    SENSOR_REGISTERS = 64,
};

/* What the schema says about a sensor. Numbers that JSON carries are text here, so that they are
 * the same to the last digit. Channels are always x, y, z. */
struct sensor_about {
    const char *stream; /* name of the stream: accel, mag */
    const char *chip;
    const char *unit;
    const char *scale; /* value in `unit` = number x scale */
    const char *range; /* largest value in `unit` */
    int16_t clip;      /* numbers >= clip or <= -clip-1 are at the end of the range */
    uint8_t rate_count;
    uint8_t stream_id;
    const uint32_t *rates_millihertz; /* rising; the last is the usual one */
};

/* Per channel, in raw numbers. */
struct self_test {
    int16_t delta[CHANNELS];
    int16_t low[CHANNELS];
    int16_t high[CHANNELS];
};

struct sensor;

struct sensor_driver {
    struct sensor_about about;

    /* Whether this chip answers. */
    bool (*probe)(struct sensor *sensor);

    /* Sets the chip up for `sensor->rate_millihertz`, its FIFO empty. False if it doesn't answer. */
    bool (*start)(struct sensor *sensor, uint64_t now_us);

    /* The chip rests. */
    void (*stop)(struct sensor *sensor);

    /* The rows that are there at `now_us`, at most SENSOR_MAX_ROWS, oldest first; 0 if none. If
     * they are fewer, the newest was taken less than one period before `now_us`. `flags` gets GAP if rows were lost
     * in front of these (also when it gives none), BUS_ERROR if the chip didn't answer. */
    size_t (*read)(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                   uint8_t *flags);

    /* The chip's own electrical test, on a stopped sensor. NULL if it has none. */
    bool (*self_test)(struct sensor *sensor, struct self_test *result);

    /* The chip's registers `first` .. `first` + `size`, as they are. */
    bool (*registers)(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size);
};

struct sensor {
    const struct sensor_driver *driver;
    const struct board *board;
    uint32_t rate_millihertz;
    uint64_t due_us;   /* the driver's own: when it looks at the chip again */
    uint32_t position; /* the driver's own: how far it is in what it gives */
};

static inline uint32_t sensor_period_us(const struct sensor *sensor)
{
    return 1000000000u / sensor->rate_millihertz;
}

#endif
