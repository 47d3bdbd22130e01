/* Main: one board. Its clocks and pins, the sensors that it finds, then for ever node_poll.
 *
 * In: a reset. Out: a board that speaks PROTOCOL.md. Never: sleeps while there is something to do,
 * feeds the watchdog without having been all around the loop. */
#include "port.h"
#include "registers.h"

#include "adxl345.h"
#include "hmc5883l.h"
#include "node.h"
#include "qmc5883l.h"
#include "synthetic.h"

#include "string.h"

static struct node node;
static struct sensor accel, magnetometer;

static uint64_t board_time_us(void *self)
{
    (void)self;
    return time_us();
}

static bool board_line_free(void *self)
{
    (void)self;
    return uart_free();
}

static void board_send(void *self, const uint8_t *bytes, size_t size)
{
    (void)self;
    uart_send(bytes, size);
}

static bool board_transfer(void *self, enum device device, const uint8_t *out, size_t out_size,
                           uint8_t *in, size_t in_size)
{
    (void)self;
    if (device == DEVICE_ADXL345)
        return spi_transfer(out, out_size, in, in_size);
    return i2c_transfer((uint8_t)device, out, out_size, in, in_size);
}

static bool board_restart(void *self, enum restart_mode mode)
{
    (void)self;
    return reset_to(mode);
}

static const struct board board = {
    .time_us = board_time_us,
    .line_free = board_line_free,
    .send = board_send,
    .transfer = board_transfer,
    .restart = board_restart,
};

static struct identity identify(const struct clocks *clocks)
{
    struct identity identity = {
        .board = "bluepill-f103",
        .uid = "EMULATED",
        .emulated = clocks->emulated,
        .crystal = clocks->crystal,
        .reset_cause = (uint8_t)reset_take_cause(),
    };
    for (int i = 0; i < UID_BYTES && !clocks->emulated; i++)
        identity.uid[i] = UID[i];
    return identity;
}

static bool add(struct sensor *sensor, const struct sensor_driver *driver, bool anyway)
{
    *sensor = (struct sensor){.driver = driver};
    return node_add(&node, sensor, anyway);
}

/* A board must have an accelerometer: without one it says so at START. It may have a magnetometer.
 * The emulator has no chips, so there other sensors stand in for them. */
static void find_sensors(const struct identity *identity)
{
    bool emulated = identity->emulated;
    node_init(&node, &board, uart_received(), identity);
    if (!add(&accel, &adxl345, !emulated) && emulated)
        add(&accel, fed_heard() ? fed_accel() : &synthetic_accel, true);
    if (!add(&magnetometer, &qmc5883l, false) && !add(&magnetometer, &hmc5883l, false) && emulated)
        add(&magnetometer, &synthetic_mag, true);
}

/* An interrupt that comes between the question and the sleep stays pending, and ends it: with
 * interrupts off the core wakes all the same (PM0056 section 2.5.2). */
static void sleep(void)
{
    interrupts_off();
    if (!node_busy(&node))
        wait_for_interrupt();
    interrupts_on();
}

int main(void)
{
    struct clocks clocks = clock_tree_start();
    struct identity identity = identify(&clocks);
    bool fed = false;
    watchdog_start();
    pins_start();
    time_start(&clocks);
    uart_start(&clocks);
    spi_start();
    i2c_start(&clocks);
    if (clocks.emulated)
        fed_start();
    find_sensors(&identity);
    for (;;) {
        node_poll(&node);
        light_set(light_on(node_light(&node), time_us()));
        watchdog_feed();
        /* A recording that begins to arrive is like a sensor that is plugged in. */
        if (!fed && fed_heard()) {
            fed = true;
            find_sensors(&identity);
        }
        sleep();
    }
}
