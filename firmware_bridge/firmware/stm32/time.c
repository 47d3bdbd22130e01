/* Time: TIM2 counts microseconds, SysTick wakes the core each millisecond.
 *
 * In: a counter of 16 bits (32 in the emulator), looked at more often than it turns over.
 * Out: microseconds since reset. Never: counts interrupts, which would lose time whenever one is
 * late. */
#include "port.h"
#include "registers.h"

#include "clock.h"

static struct clock since_reset;

void time_start(const struct clocks *clocks)
{
    RCC->APB1ENR |= RCC_APB1ENR_TIM2EN;
    /* The timer's clock is twice APB1's, as APB1 is divided: the core's (RM0008 section 7.2). */
    TIM2->PSC = clocks->timer_prescaler;
    /* As many ones stay as the counter has bits. */
    TIM2->ARR = 0xFFFFFFFFu;
    since_reset = (struct clock){.mask = TIM2->ARR};
    TIM2->EGR = TIM_EGR_UG;
    TIM2->CR1 = TIM_CR1_CEN;
    since_reset.count = TIM2->CNT & since_reset.mask;

    SYSTICK->LOAD = clocks->core_hz / 1000 - 1;
    SYSTICK->VAL = 0;
    SYSTICK->CTRL = SYSTICK_CTRL_CLKSOURCE | SYSTICK_CTRL_TICKINT | SYSTICK_CTRL_ENABLE;
}

uint64_t time_us(void)
{
    return clock_advance(&since_reset, TIM2->CNT);
}

/* To have woken is all. */
void systick_interrupt(void)
{
}
