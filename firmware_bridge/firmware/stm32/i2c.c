/* I2C: the magnetometer on I2C1, PB6 and PB7, 400 kHz.
 *
 * In: bytes to write, then bytes to read, with a repeated START between. Out: what the chip said.
 * Never: waits longer than about a millisecond for one event, leaves the bus held: after a failure
 * it is freed, by nine clocks if a chip holds SDA.
 *
 * The order of ACK, STOP and reading is that of RM0008 section 26.3.3 for one, two and more bytes;
 * where it says so nothing may come between, interrupts are off for some cycles. */
#include "port.h"
#include "registers.h"

enum { LOOPS = 8000, HALF_CLOCK_LOOPS = 50, SCL = 1u << 6, SDA = 1u << 7 };

#define FAILURES (I2C_SR1_AF | I2C_SR1_ARLO | I2C_SR1_BERR)

static uint32_t apb1_hz;

static void set_up(void)
{
    uint32_t mhz = apb1_hz / 1000000;
    I2C1->CR1 = I2C_CR1_SWRST;
    I2C1->CR1 = 0;
    I2C1->CR2 = mhz;
    /* Low twice as long as high, 3 x CCR in all; rounded up, so never above 400 kHz. */
    I2C1->CCR = I2C_CCR_FAST | (apb1_hz + 1199999) / 1200000;
    I2C1->TRISE = mhz * 300 / 1000 + 1; /* edges of 300 ns at most */
    I2C1->CR1 = I2C_CR1_PE;
}

void i2c_start(const struct clocks *clocks)
{
    RCC->APB1ENR |= RCC_APB1ENR_I2C1EN;
    apb1_hz = clocks->core_hz / 2;
    set_up();
}

static void drive(uint32_t lines)
{
    GPIOB->BSRR = lines | ((SCL | SDA) & ~lines) << 16;
    for (uint32_t loops = HALF_CLOCK_LOOPS; loops > 0; loops--)
        (void)GPIOB->IDR;
}

/* A chip that was interrupted while it sent a zero holds SDA until it has sent the rest: at most
 * nine clocks. Then a STOP. The peripheral's reset also frees a BUSY that its filter has locked
 * (STM32F103 errata, "I2C analog filter may provide wrong value"). */
static void free_bus(void)
{
    uint32_t usual = GPIOB->CRL;
    GPIOB->ODR |= SCL | SDA;
    GPIOB->CRL = (usual & 0x00FFFFFFu) | 0x77000000u; /* both open drain outputs */
    for (int clocks = 0; clocks < 9 && (GPIOB->IDR & SDA) == 0; clocks++) {
        drive(SDA);
        drive(SDA | SCL);
    }
    drive(0);
    drive(SCL);
    drive(SCL | SDA);
    GPIOB->CRL = usual;
    set_up();
}

/* All of `events`, unless something goes wrong. */
static bool wait_event(uint32_t events)
{
    for (uint32_t loops = LOOPS; loops > 0; loops--) {
        uint32_t status = I2C1->SR1;
        if (status & FAILURES)
            return false;
        if ((status & events) == events)
            return true;
    }
    return false;
}

/* START and the address; leaves ADDR set, which holds the clock until SR2 is read. */
static bool address(uint8_t to, bool reading, uint32_t mode)
{
    I2C1->CR1 = I2C_CR1_PE | I2C_CR1_START | mode;
    if (!wait_event(I2C_SR1_SB))
        return false;
    I2C1->DR = (uint32_t)to << 1 | (reading ? 1 : 0);
    return wait_event(I2C_SR1_ADDR);
}

static void clear_address(void)
{
    (void)I2C1->SR1;
    (void)I2C1->SR2;
}

static bool write_bytes(uint8_t to, const uint8_t *out, size_t size)
{
    if (!address(to, false, 0))
        return false;
    clear_address();
    for (size_t i = 0; i < size; i++) {
        if (!wait_event(I2C_SR1_TXE))
            return false;
        I2C1->DR = out[i];
    }
    return wait_event(I2C_SR1_BTF);
}

static bool read_one(uint8_t from, uint8_t *in)
{
    if (!address(from, true, 0))
        return false;
    interrupts_off();
    clear_address();
    I2C1->CR1 = I2C_CR1_PE | I2C_CR1_STOP;
    interrupts_on();
    if (!wait_event(I2C_SR1_RXNE))
        return false;
    in[0] = (uint8_t)I2C1->DR;
    return true;
}

static bool read_two(uint8_t from, uint8_t *in)
{
    /* POS: the missing ACK is for the byte behind the one that is coming in. */
    if (!address(from, true, I2C_CR1_ACK | I2C_CR1_POS))
        return false;
    interrupts_off();
    clear_address();
    I2C1->CR1 = I2C_CR1_PE | I2C_CR1_POS;
    interrupts_on();
    if (!wait_event(I2C_SR1_BTF))
        return false;
    interrupts_off();
    I2C1->CR1 = I2C_CR1_PE | I2C_CR1_STOP;
    in[0] = (uint8_t)I2C1->DR;
    interrupts_on();
    in[1] = (uint8_t)I2C1->DR;
    return true;
}

static bool read_more(uint8_t from, uint8_t *in, size_t size)
{
    if (!address(from, true, I2C_CR1_ACK))
        return false;
    clear_address();
    for (; size > 3; size--) {
        if (!wait_event(I2C_SR1_RXNE))
            return false;
        *in++ = (uint8_t)I2C1->DR;
    }
    /* One byte in DR, one behind it, the clock held: only now is it safe to refuse the last. */
    if (!wait_event(I2C_SR1_BTF))
        return false;
    I2C1->CR1 = I2C_CR1_PE;
    interrupts_off();
    in[0] = (uint8_t)I2C1->DR;
    I2C1->CR1 = I2C_CR1_PE | I2C_CR1_STOP;
    in[1] = (uint8_t)I2C1->DR;
    interrupts_on();
    if (!wait_event(I2C_SR1_RXNE))
        return false;
    in[2] = (uint8_t)I2C1->DR;
    return true;
}

static bool read_bytes(uint8_t from, uint8_t *in, size_t size)
{
    if (size == 1)
        return read_one(from, in);
    return size == 2 ? read_two(from, in) : read_more(from, in, size);
}

bool i2c_transfer(uint8_t chip, const uint8_t *out, size_t out_size, uint8_t *in, size_t in_size)
{
    if (!wait_without(&I2C1->SR2, I2C_SR2_BUSY, LOOPS))
        free_bus();
    bool answered = (out_size == 0 || write_bytes(chip, out, out_size)) &&
                    (in_size == 0 || read_bytes(chip, in, in_size));
    if (!answered)
        free_bus();
    else if (in_size == 0)
        I2C1->CR1 = I2C_CR1_PE | I2C_CR1_STOP;
    return answered;
}
