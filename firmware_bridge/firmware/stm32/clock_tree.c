/* Clock tree: 72 MHz from the crystal, or 64 MHz from the oscillator inside.
 *
 * Out: what it has become. Never: waits for a crystal that isn't there, comes back with less than
 * the UART needs; a chip whose PLL never locks starts over. */
#include "port.h"
#include "registers.h"

/* A crystal needs 2 ms or so. A look at a register takes about 1 us of the 8 MHz at reset. */
enum { LOOPS = 50000 };

/* RM0008 section 7.2: the PLL's input and factor may change only while it is off, and it may be off
 * only while nothing runs on it; a bootloader may have left it on. */
static bool run_on_pll(uint32_t source)
{
    RCC->CR |= RCC_CR_HSION;
    if (!wait_for(&RCC->CR, RCC_CR_HSIRDY, LOOPS))
        return false;
    RCC->CFGR = 0;
    if (!wait_without(&RCC->CFGR, RCC_CFGR_SWS, LOOPS))
        return false;
    RCC->CR &= ~RCC_CR_PLLON;
    if (!wait_without(&RCC->CR, RCC_CR_PLLRDY, LOOPS))
        return false;
    /* APB1 may have 36 MHz at most, APB2 all of it. */
    RCC->CFGR = source | RCC_CFGR_PPRE1_DIV2;
    RCC->CR |= RCC_CR_PLLON;
    if (!wait_for(&RCC->CR, RCC_CR_PLLRDY, LOOPS))
        return false;
    RCC->CFGR |= RCC_CFGR_SW_PLL;
    return wait_for(&RCC->CFGR, RCC_CFGR_SWS_PLL, LOOPS);
}

static bool crystal_runs(void)
{
    RCC->CR |= RCC_CR_HSEON;
    return wait_for(&RCC->CR, RCC_CR_HSERDY, LOOPS);
}

struct clocks clock_tree_start(void)
{
    /* Silicon resets to 0x83. QEMU's netduino2 has nothing here, a timer clock of 1 GHz, and a
     * core of 120 MHz. */
    if (RCC->CR == 0)
        return (struct clocks){.emulated = true, .crystal = true, .core_hz = 120000000,
                               .timer_prescaler = 999};

    /* PM0075 section 3.1: two wait states above 48 MHz, before the clock rises. */
    FLASH_ACR = FLASH_ACR_PRFTBE | FLASH_ACR_LATENCY_2;
    if (crystal_runs() && run_on_pll(RCC_CFGR_PLLSRC_HSE | RCC_CFGR_PLLMULL(9u))) {
        /* A crystal that stops later is an NMI, which restarts the board on the other clock. */
        RCC->CR |= RCC_CR_CSSON;
        return (struct clocks){.crystal = true, .core_hz = 72000000, .timer_prescaler = 71};
    }
    RCC->CR &= ~RCC_CR_HSEON;
    if (!run_on_pll(RCC_CFGR_PLLMULL(16u))) /* of 8 MHz / 2 */
        reset_after_fault();
    return (struct clocks){.core_hz = 64000000, .timer_prescaler = 63};
}
