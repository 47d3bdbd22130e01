/* World: the operations on time, line and chips. */
#include "harness.h"

#include <string.h>

static enum chip take_chip(struct request *request)
{
    uint8_t chip = take_u8(request);
    if (chip >= CHIPS)
        host_die("no such chip");
    return (enum chip)chip;
}

static void set_costs(struct request *request)
{
    world.look_ns = take_u32(request);
    world.spi_byte_ns = take_u32(request);
    world.i2c_byte_ns = take_u32(request);
}

static void set_line(struct request *request)
{
    world.line_blocked = take_u8(request);
    world.baud = take_u32(request);
}

/* Bytes that are still being sent stay for the comparison. */
static void give_sent(void)
{
    size_t left = world.sent_size - world.lent_size;
    give_bytes(world.sent, left);
    memmove(world.sent, world.sent + left, world.lent_size);
    world.sent_size = world.lent_size;
}

static void set_three(struct request *request, int32_t values[AXES])
{
    for (int i = 0; i < AXES; i++)
        values[i] = (int32_t)take_u32(request);
}

static void set_signal(enum chip chip, struct request *request)
{
    struct signal *signals[CHIPS] = {&world.adxl345.signal, &world.qmc5883l.signal,
                                     &world.hmc5883l.signal};
    signals[chip]->still = take_u8(request);
    set_three(request, signals[chip]->value);
}

static void set_once(struct bus *bus, struct request *request)
{
    bus->once_in = take_u32(request);
    bus->once = (enum chip_fault)take_u8(request);
}

static void give_state(enum chip chip)
{
    const uint32_t taken[CHIPS] = {world.adxl345.taken, world.qmc5883l.taken,
                                   world.hmc5883l.taken};
    give_u32(world.buses[chip].transfers);
    give_u32(taken[chip]);
    give_u32(chip == CHIP_ADXL345 ? world.adxl345.early_reads : 0);
    if (chip == CHIP_ADXL345)
        give_bytes(world.adxl345.registers, sizeof world.adxl345.registers);
    else if (chip == CHIP_QMC5883L)
        give_bytes(world.qmc5883l.registers, sizeof world.qmc5883l.registers);
    else
        give_bytes(world.hmc5883l.registers, sizeof world.hmc5883l.registers);
}

static bool chip_run(enum operation_code code, struct request *request)
{
    enum chip chip = take_chip(request);
    int32_t *ppm[CHIPS] = {&world.adxl345.ppm, &world.qmc5883l.ppm, &world.hmc5883l.ppm};
    if (code == OP_CHIP_FAULT)
        world.buses[chip].fault = (enum chip_fault)take_u8(request);
    else if (code == OP_CHIP_FAULT_ONCE)
        set_once(&world.buses[chip], request);
    else if (code == OP_CHIP_POWER_ON)
        host_board_power_on(&world, chip);
    else if (code == OP_CHIP_SIGNAL)
        set_signal(chip, request);
    else if (code == OP_CHIP_PPM)
        *ppm[chip] = (int32_t)take_u32(request);
    else if (code == OP_CHIP_SELF_TEST)
        set_three(request, chip == CHIP_ADXL345 ? world.adxl345.force
                                                : world.hmc5883l.straps_milligauss);
    else if (code == OP_CHIP_STATE)
        give_state(chip);
    else
        return false;
    return true;
}

bool world_run(enum operation_code code, struct request *request)
{
    if (code >= OP_CHIP_FAULT && code <= OP_CHIP_STATE)
        return chip_run(code, request);
    if (code == OP_TIME_SET) {
        world.now_ns = take_u64(request) * 1000;
    } else if (code == OP_TIME_GET) {
        give_u64(world.now_ns / 1000);
    } else if (code == OP_COSTS) {
        set_costs(request);
    } else if (code == OP_LINE) {
        set_line(request);
    } else if (code == OP_SENT) {
        give_sent();
    } else if (code == OP_RESTARTS) {
        give_u32(world.restarts);
        give_u8((uint8_t)world.restart_mode);
    } else {
        return false;
    }
    return true;
}
