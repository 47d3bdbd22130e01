/* Pins: what WIRING.md says, as port configuration bits.
 *
 * Never: drives a pin that the wiring table doesn't name. */
#include "port.h"
#include "registers.h"

enum { SELECT_PIN = 4, LIGHT_PIN = 13 };

/* RM0008 section 9.1, CNF and MODE of one pin. */
enum {
    OUTPUT_SLOW = 0x2,  /* push-pull, 2 MHz */
    OUTPUT_FAST = 0x3,  /* push-pull, 50 MHz */
    INPUT_FLOATING = 0x4,
    INPUT_PULLED = 0x8, /* up where ODR has a one */
    PERIPHERAL = 0xB,   /* push-pull, 50 MHz */
    PERIPHERAL_OPEN_DRAIN = 0xF,
};

static uint32_t pin(uint32_t number, uint32_t configuration)
{
    return configuration << number % 8 * 4;
}

static uint32_t others(uint32_t low, uint32_t high)
{
    uint32_t bits = 0;
    for (uint32_t number = 0; number < 8; number++)
        if (number < low || number > high)
            bits |= pin(number, INPUT_FLOATING);
    return bits;
}

void pins_start(void)
{
    RCC->APB2ENR |= RCC_APB2ENR_IOPAEN | RCC_APB2ENR_IOPBEN | RCC_APB2ENR_IOPCEN;
    /* The chip is not selected and the light is off before they are outputs. RX and MISO are pulled
     * up: an open line is silent, a missing chip reads FF. */
    GPIOA->ODR = 1u << SELECT_PIN | 1u << 3 | 1u << 6;
    GPIOC->ODR = 1u << LIGHT_PIN;
    GPIOA->CRL = others(2, 7) | pin(2, PERIPHERAL) | pin(3, INPUT_PULLED) |
                 pin(SELECT_PIN, OUTPUT_FAST) | pin(5, PERIPHERAL) | pin(6, INPUT_PULLED) |
                 pin(7, PERIPHERAL);
    GPIOB->CRL = others(6, 7) | pin(6, PERIPHERAL_OPEN_DRAIN) | pin(7, PERIPHERAL_OPEN_DRAIN);
    GPIOC->CRH = others(LIGHT_PIN % 8, LIGHT_PIN % 8) | pin(LIGHT_PIN, OUTPUT_SLOW);
}

/* The blue pill's LED is between the pin and 3.3 V. */
void light_set(bool on)
{
    GPIOC->BSRR = on ? 1u << (LIGHT_PIN + 16) : 1u << LIGHT_PIN;
}

void chip_select(bool selected)
{
    GPIOA->BSRR = selected ? 1u << (SELECT_PIN + 16) : 1u << SELECT_PIN;
}
