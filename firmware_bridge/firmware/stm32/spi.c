/* SPI: the ADXL345 on SPI1, PA4 to PA7, mode 3.
 *
 * In: bytes to write, then bytes to read. Out: what the chip said. Never: keeps the chip selected,
 * waits for a byte longer than fifty take. */
#include "port.h"
#include "registers.h"

/* At 4.5 MHz a byte takes 1.8 us. */
enum { BYTE_LOOPS = 1000 };

void spi_start(void)
{
    RCC->APB2ENR |= RCC_APB2ENR_SPI1EN;
    /* 72 MHz / 16 = 4.5 MHz; the chip takes 5. Our own chip select, so NSS is held high inside. */
    SPI1->CR1 = SPI_CR1_CPHA | SPI_CR1_CPOL | SPI_CR1_MSTR | SPI_CR1_BR_DIV16 | SPI_CR1_SSM |
                SPI_CR1_SSI | SPI_CR1_SPE;
}

static bool exchange(uint8_t out, uint8_t *in)
{
    if (!wait_for(&SPI1->SR, SPI_SR_TXE, BYTE_LOOPS))
        return false;
    SPI1->DR = out;
    if (!wait_for(&SPI1->SR, SPI_SR_RXNE, BYTE_LOOPS))
        return false;
    *in = (uint8_t)SPI1->DR;
    return true;
}

bool spi_transfer(const uint8_t *out, size_t out_size, uint8_t *in, size_t in_size)
{
    chip_select(true);
    bool answered = true;
    uint8_t ignored;
    for (size_t i = 0; answered && i < out_size; i++)
        answered = exchange(out[i], &ignored);
    for (size_t i = 0; answered && i < in_size; i++)
        answered = exchange(0, &in[i]);
    answered = wait_without(&SPI1->SR, SPI_SR_BSY, BYTE_LOOPS) && answered;
    chip_select(false);
    return answered;
}
