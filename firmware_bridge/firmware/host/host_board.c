#include "host_board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A look at the clock, a byte at 4.5 MHz, and one with its acknowledge at 400 kHz. */
enum { LOOK_NS = 250, SPI_BYTE_NS = 1778, I2C_BYTE_NS = 22500, BITS_A_BYTE = 10 };

void host_die(const char *why)
{
    fprintf(stderr, "harness: %s\n", why);
    exit(3);
}

static uint64_t time_us(void *self)
{
    struct host_board *host = self;
    host->now_ns += host->look_ns;
    return host->now_ns / 1000;
}

static bool line_free(void *self)
{
    struct host_board *host = self;
    if (host->line_blocked || host->now_ns < host->line_ns)
        return false;
    const uint8_t *kept = host->sent + host->sent_size - host->lent_size;
    if (host->lent_size > 0 && memcmp(host->lent, kept, host->lent_size) != 0)
        host_die("the firmware changed bytes that were still being sent");
    host->lent_size = 0;
    return true;
}

static void send(void *self, const uint8_t *bytes, size_t size)
{
    struct host_board *host = self;
    if (!line_free(self))
        host_die("the firmware sent while the line was busy");
    if (host->sent_size + size > SENT_BYTES)
        host_die("nobody took what the firmware has sent");
    memcpy(host->sent + host->sent_size, bytes, size);
    host->sent_size += size;
    if (host->baud == 0)
        return;
    host->lent = bytes;
    host->lent_size = size;
    host->line_ns = host->now_ns + (uint64_t)size * BITS_A_BYTE * 1000000000u / host->baud;
}

static enum chip chip_at(enum device device)
{
    switch (device) {
    case DEVICE_ADXL345:
        return CHIP_ADXL345;
    case DEVICE_QMC5883L:
        return CHIP_QMC5883L;
    case DEVICE_HMC5883L:
        return CHIP_HMC5883L;
    }
    host_die("the firmware spoke to a device that board.h doesn't have");
}

/* What this transfer suffers from. */
static enum chip_fault fault_now(struct bus *bus)
{
    bus->transfers++;
    if (bus->once_in > 0 && --bus->once_in == 0)
        return bus->once;
    return bus->fault;
}

static void reach(struct host_board *host, enum chip chip, uint64_t now_ns, const uint8_t *out,
                  size_t out_size, uint8_t *in, size_t in_size)
{
    if (chip == CHIP_ADXL345)
        adxl345_chip_transfer(&host->adxl345, now_ns, host->spi_byte_ns, out, out_size, in,
                              in_size);
    else if (chip == CHIP_QMC5883L)
        qmc5883l_chip_transfer(&host->qmc5883l, now_ns, out, out_size, in, in_size);
    else
        hmc5883l_chip_transfer(&host->hmc5883l, now_ns, out, out_size, in, in_size);
}

static bool transfer(void *self, enum device device, const uint8_t *out, size_t out_size,
                     uint8_t *in, size_t in_size)
{
    struct host_board *host = self;
    enum chip chip = chip_at(device);
    uint64_t now_ns = host->now_ns;
    size_t bytes = out_size + in_size;
    if (chip != CHIP_ADXL345)
        bytes += in_size > 0 ? 2 : 1; /* the address, and once more to read */
    host->now_ns += bytes * (chip == CHIP_ADXL345 ? host->spi_byte_ns : host->i2c_byte_ns);
    enum chip_fault fault = fault_now(&host->buses[chip]);
    /* After a failure `in` means nothing; it is set all the same, so that nothing depends on it. */
    if (in_size > 0)
        memset(in, fault == CHIP_STUCK_LOW ? 0x00 : 0xFF, in_size);
    if (fault == CHIP_WELL || fault == CHIP_GLITCH)
        reach(host, chip, now_ns, out, out_size, in, in_size);
    if (fault == CHIP_GLITCH && in_size > 1)
        in[1] ^= 0x40;
    return fault != CHIP_BUS_ERROR && (fault != CHIP_ABSENT || chip == CHIP_ADXL345);
}

static bool restart(void *self, enum restart_mode mode)
{
    struct host_board *host = self;
    host->restarts++;
    host->restart_mode = mode;
    return false;
}

void host_board_power_on(struct host_board *host, enum chip chip)
{
    if (chip == CHIP_ADXL345)
        adxl345_chip_power_on(&host->adxl345);
    else if (chip == CHIP_QMC5883L)
        qmc5883l_chip_power_on(&host->qmc5883l);
    else
        hmc5883l_chip_power_on(&host->hmc5883l, host->now_ns);
}

void host_board_init(struct host_board *host)
{
    memset(host, 0, sizeof *host);
    host->board = (struct board){host, time_us, line_free, send, transfer, restart};
    host->look_ns = LOOK_NS;
    host->spi_byte_ns = SPI_BYTE_NS;
    host->i2c_byte_ns = I2C_BYTE_NS;
    /* Middle values of the datasheets, at 3.3 V. */
    memcpy(host->adxl345.force, (int32_t[AXES]){300, -300, 500}, sizeof host->adxl345.force);
    memcpy(host->hmc5883l.straps_milligauss, (int32_t[AXES]){1160, 1160, 1080},
           sizeof host->hmc5883l.straps_milligauss);
    for (enum chip chip = 0; chip < CHIPS; chip++)
        host_board_power_on(host, chip);
}
