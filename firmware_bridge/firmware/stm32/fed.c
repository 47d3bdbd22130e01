/* Fed: a recording instead of an accelerometer, for the emulator.
 *
 * In: DATA frames of stream 1 on USART3, which QEMU gives a pseudo-terminal. Out: their rows in
 * their order, due by the board's clock at the rate that is set; their own times and numbers mean
 * nothing. Never: loses a row. When the ring is full it asks for no more, and QEMU leaves the rest
 * in the pseudo-terminal, where the feeder has to wait. On silicon nothing of this runs. */
#include "port.h"
#include "registers.h"

#include "adxl345.h"
#include "bytes.h"
#include "frame.h"

#include "string.h"

enum { ON = USART_CR1_UE | USART_CR1_RE, ROWS_AT = 16, ROW_BYTES = CHANNELS * 2 };

static struct sensor_driver driver;
static struct ring arrived;
static struct receiver receiver;
static size_t row_at, rows_end; /* what of the frame in `receiver.bytes` hasn't been given yet */
static uint64_t due_ns;         /* when the next row is taken */

/* One more byte may be on its way when the interrupt is turned off. */
static bool has_room(void)
{
    return ring_level(&arrived) < RING_BYTES - 2;
}

void usart3_interrupt(void)
{
    ring_push(&arrived, (uint8_t)USART3->DR);
    if (!has_room())
        USART3->CR1 = ON;
}

bool fed_heard(void)
{
    return arrived.pushed > 0;
}

/* Goes through what has arrived up to the next DATA frame of ours with a row in it. */
static bool next_frame(uint8_t stream_id)
{
    uint8_t byte;
    bool found = false;
    while (!found && ring_take(&arrived, &byte)) {
        size_t size = receiver_take(&receiver, byte);
        const uint8_t *body = receiver.bytes;
        if (size <= DATA_HEAD_BYTES || body[0] != FRAME_DATA || body[1] != stream_id)
            continue;
        row_at = DATA_HEAD_BYTES;
        rows_end = row_at + (size_t)get_u16(body + ROWS_AT) * ROW_BYTES;
        found = rows_end == size;
    }
    /* Not while the interrupt may be filling the ring. */
    interrupts_off();
    if (has_room())
        USART3->CR1 = ON | USART_CR1_RXNEIE;
    interrupts_on();
    if (!found)
        row_at = rows_end = 0;
    return found;
}

static bool next_row(uint8_t stream_id, int16_t row[CHANNELS])
{
    if (row_at == rows_end && !next_frame(stream_id))
        return false;
    for (int channel = 0; channel < CHANNELS; channel++, row_at += 2)
        row[channel] = (int16_t)get_u16(receiver.bytes + row_at);
    return true;
}

static bool fed_probe(struct sensor *sensor)
{
    (void)sensor;
    return true;
}

static bool fed_begin(struct sensor *sensor, uint64_t now_us)
{
    (void)sensor;
    due_ns = now_us * 1000;
    return true;
}

static void fed_stop(struct sensor *sensor)
{
    (void)sensor;
}

/* A feeder that is late is caught up with, up to as many rows as a FIFO would hold; beyond that the
 * recording stands still. */
static size_t fed_read(struct sensor *sensor, uint64_t now_us, int16_t rows[][CHANNELS],
                       uint8_t *flags)
{
    uint64_t period_ns = 1000000000000u / sensor->rate_millihertz, now_ns = now_us * 1000;
    uint64_t backlog_ns = SENSOR_MAX_ROWS * period_ns;
    size_t count = 0;
    (void)flags;
    if (now_ns > due_ns + backlog_ns)
        due_ns = now_ns - backlog_ns;
    while (count < SENSOR_MAX_ROWS && due_ns + period_ns <= now_ns &&
           next_row(sensor->driver->about.stream_id, rows[count])) {
        due_ns += period_ns;
        count++;
    }
    return count;
}

static bool fed_registers(struct sensor *sensor, uint8_t first, uint8_t *values, size_t size)
{
    (void)sensor;
    (void)first;
    memset(values, 0, size);
    return true;
}

/* Says the same of itself as the chip it stands for, but for its name. */
void fed_start(void)
{
    driver = (struct sensor_driver){
        .about = adxl345.about,
        .probe = fed_probe,
        .start = fed_begin,
        .stop = fed_stop,
        .read = fed_read,
        .registers = fed_registers,
    };
    driver.about.chip = "fed";
    USART3->CR1 = ON | USART_CR1_RXNEIE;
    interrupt_enable(IRQ_USART3);
}

const struct sensor_driver *fed_accel(void)
{
    return &driver;
}
