/* Port: the STM32F103C8T6 behind the five functions of core/board.h.
 *
 * In: one board's pins (WIRING.md). Out: time, a line to the host, two buses, a light. The same
 * image finds at its start whether it is on silicon or in QEMU's netduino2, and each file says what
 * it does without.
 * Never: a wait without a bound, a 64-bit time outside the main loop. */
#ifndef OTOLITH_PORT_H
#define OTOLITH_PORT_H

#include "ring.h"
#include "schema.h"
#include "sensor.h"

/* clock_tree.c: what the chip runs on. */
struct clocks {
    bool emulated;
    bool crystal;             /* false: the coarse oscillator inside, +-1 % */
    uint32_t core_hz;         /* APB2 has the same, APB1 half of it */
    uint32_t timer_prescaler; /* of TIM2, for 1 MHz */
};
struct clocks clock_tree_start(void);

/* pins.c */
void pins_start(void);
void light_set(bool on);
void chip_select(bool selected);

/* time.c: microseconds since reset. Main loop only, and at least each 65 ms. */
void time_start(const struct clocks *clocks);
uint64_t time_us(void);

/* uart.c: the line to the host. */
void uart_start(const struct clocks *clocks);
struct ring *uart_received(void);
bool uart_free(void);
void uart_send(const uint8_t *bytes, size_t size);
void uart_finish(void); /* until the last bit has left, or ought to have */

/* spi.c, i2c.c: false if the chip or the bus did not answer in time. */
void spi_start(void);
bool spi_transfer(const uint8_t *out, size_t out_size, uint8_t *in, size_t in_size);
void i2c_start(const struct clocks *clocks);
bool i2c_transfer(uint8_t address, const uint8_t *out, size_t out_size, uint8_t *in,
                  size_t in_size);

/* watchdog.c */
void watchdog_start(void);
void watchdog_feed(void);

/* reset.c: how the chip starts, and starts over. */
void bootloader_if_asked(void); /* before data and bss are there */
enum reset_cause reset_take_cause(void);
bool reset_to(enum restart_mode mode); /* comes back only if it can't: false */
_Noreturn void reset_after_fault(void);

/* fed.c: a recording instead of an accelerometer, only in the emulator. */
void fed_start(void);
bool fed_heard(void); /* whether anything has come yet */
const struct sensor_driver *fed_accel(void);

/* Interrupts, for the vector table. */
void usart2_interrupt(void);
void usart3_interrupt(void);
void systick_interrupt(void);

int main(void);

#endif
