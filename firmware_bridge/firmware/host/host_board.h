/* Host board: a `struct board` whose time, line and buses are simulated.
 *
 * In: what a test sets. Out: what the firmware has sent, and a time that only goes on by the test's
 * word and by what the firmware does: bytes on a bus and looks at the clock take their time.
 * Never: lets the firmware break a rule of board.h: sending while the line is busy, or changing
 * bytes that are still being sent, ends the process. */
#ifndef OTOLITH_HOST_BOARD_H
#define OTOLITH_HOST_BOARD_H

#include "chips/adxl345_chip.h"
#include "chips/hmc5883l_chip.h"
#include "chips/qmc5883l_chip.h"

#include "board.h"

enum { SENT_BYTES = 1 << 20 };

enum chip { CHIP_ADXL345, CHIP_QMC5883L, CHIP_HMC5883L, CHIPS };

struct bus {
    enum chip_fault fault;
    uint32_t transfers;
    uint32_t once_in; /* the transfer that has `once`, counted from 1; 0 for none */
    enum chip_fault once;
};

struct host_board {
    struct board board;
    uint64_t now_ns;
    uint32_t look_ns, spi_byte_ns, i2c_byte_ns; /* what a look at the clock and bytes take */

    uint32_t baud;      /* 0: a frame is gone at once */
    bool line_blocked;  /* nothing leaves */
    uint64_t line_ns;   /* when what is being sent will have left */
    const uint8_t *lent; /* the firmware's bytes, until then */
    size_t lent_size, sent_size;
    uint8_t sent[SENT_BYTES];

    uint32_t restarts;
    enum restart_mode restart_mode;

    struct bus buses[CHIPS];
    struct adxl345_chip adxl345;
    struct qmc5883l_chip qmc5883l;
    struct hmc5883l_chip hmc5883l;
};

/* All chips there and well, time 0, an infinitely fast line. */
void host_board_init(struct host_board *host);
void host_board_power_on(struct host_board *host, enum chip chip);

/* Prints why, and ends the process. */
_Noreturn void host_die(const char *why);

#endif
