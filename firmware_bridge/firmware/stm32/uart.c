/* UART: the line to the host, USART2 on PA2 and PA3, 921600 8N1.
 *
 * In: bytes by interrupt into a ring. Out: whole frames by DMA, or byte by byte where there is no
 * DMA (QEMU). Never: waits for the line longer than a frame takes. */
#include "port.h"
#include "registers.h"

/* A byte takes 11 us, a look at a register at least 0.1 us; ten times that is enough. */
enum { BAUD = 921600, BYTE_LOOPS = 1000, FRAME_US = 15000 };

static struct ring received;
static bool has_dma;

/* What was written stays where there is a channel. */
static bool dma_answers(void)
{
    RCC->AHBENR |= RCC_AHBENR_DMA1EN;
    DMA1_CHANNEL7->CNDTR = 0x5A5;
    bool answers = DMA1_CHANNEL7->CNDTR == 0x5A5;
    DMA1_CHANNEL7->CNDTR = 0;
    return answers;
}

void uart_start(const struct clocks *clocks)
{
    RCC->APB1ENR |= RCC_APB1ENR_USART2EN;
    has_dma = dma_answers();
    /* RM0008 section 27.3.4: 39 of 36 MHz is 0.16 % too fast, 35 of 32 MHz 0.8 % too slow. */
    USART2->BRR = (clocks->core_hz / 2 + BAUD / 2) / BAUD;
    USART2->CR3 = has_dma ? USART_CR3_DMAT : 0;
    USART2->CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE | USART_CR1_RXNEIE;
    interrupt_enable(IRQ_USART2);
}

/* RM0008 section 27.6.1: reading SR, then DR clears what is set, an overrun too. */
void usart2_interrupt(void)
{
    uint32_t status = USART2->SR;
    uint8_t byte = (uint8_t)USART2->DR;
    if (status & USART_SR_ORE)
        received.overruns++;
    if (status & USART_SR_RXNE)
        ring_push(&received, byte);
}

struct ring *uart_received(void)
{
    return &received;
}

/* A channel that met an error has stopped: what it had is gone, the line is free. */
bool uart_free(void)
{
    return !has_dma || DMA1_CHANNEL7->CNDTR == 0 || (DMA1_ISR & DMA_ISR_TEIF7) != 0;
}

static void send_by_dma(const uint8_t *bytes, size_t size)
{
    struct dma_channel_registers *channel = DMA1_CHANNEL7;
    channel->CCR = 0;
    DMA1_IFCR = DMA_IFCR_CGIF7;
    channel->CPAR = (uint32_t)(uintptr_t)&USART2->DR;
    channel->CMAR = (uint32_t)(uintptr_t)bytes;
    channel->CNDTR = (uint32_t)size;
    USART2->SR = ~USART_SR_TC;
    memory_barrier();
    channel->CCR = DMA_CCR_MINC | DMA_CCR_DIR | DMA_CCR_EN;
}

void uart_send(const uint8_t *bytes, size_t size)
{
    if (has_dma) {
        send_by_dma(bytes, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (!wait_for(&USART2->SR, USART_SR_TXE, BYTE_LOOPS))
            return;
        USART2->DR = bytes[i];
    }
}

void uart_finish(void)
{
    uint64_t until_us = time_us() + FRAME_US;
    while (time_us() < until_us)
        if (uart_free() && (USART2->SR & USART_SR_TC) != 0)
            return;
}
