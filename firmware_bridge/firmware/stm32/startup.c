/* Startup: the vector table, and what happens before main.
 *
 * In: the chip, just reset. Out: a C program's memory. Never: stays in a fault; whatever was not
 * expected restarts the board, and a fault within that is the watchdog's. */
#include "port.h"
#include "registers.h"

#include "string.h"

enum { CORE_VECTORS = 15, INTERRUPT_VECTORS = 43 };

/* f103.ld has these; only their addresses mean something. */
extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

void reset_start(void);

static void unexpected(void)
{
    reset_after_fault();
}

/* RM0008 table 63. NMI is the clock security system: the crystal has stopped. */
struct vectors {
    uint32_t *stack;
    void (*core[CORE_VECTORS])(void);
    void (*interrupts[INTERRUPT_VECTORS])(void);
};

extern const struct vectors vectors;

#define UNEXPECTED_5 unexpected, unexpected, unexpected, unexpected, unexpected

__attribute__((section(".vectors"), used)) const struct vectors vectors = {
    stack_top,
    {reset_start, unexpected, unexpected, unexpected, unexpected, unexpected, UNEXPECTED_5,
     unexpected, unexpected, unexpected, systick_interrupt},
    {UNEXPECTED_5, UNEXPECTED_5, UNEXPECTED_5, UNEXPECTED_5, UNEXPECTED_5, UNEXPECTED_5,
     UNEXPECTED_5, unexpected, unexpected, unexpected, [IRQ_USART2] = usart2_interrupt,
     [IRQ_USART3] = usart3_interrupt, unexpected, unexpected, unexpected},
};

void reset_start(void)
{
    bootloader_if_asked();
    /* Behind a bootloader the table isn't where the chip looks for it. */
    SCB_VTOR = (uint32_t)(uintptr_t)&vectors;
    memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    main();
    reset_after_fault();
}
