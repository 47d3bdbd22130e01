/* Reset: why the chip has started, and how it starts over.
 *
 * In: the flags of RCC_CSR, and a note that this program leaves itself in RAM that nobody clears.
 * Out: a reset cause of PROTOCOL.md section 3. Never: enters the ROM with anything set up; the way
 * there leads through a reset. */
#include "port.h"
#include "registers.h"

/* A note that chance won't write: 1 in 2^32 at power on, and then only this once. */
enum { NOTE_ASKED = 0x41534B44, NOTE_FAULT = 0x4641554C };

/* In a backup register, as RAM is the ROM's. 16 bits. */
enum { BOOTLOADER_WANTED = 0xB007 };

__attribute__((section(".noinit"))) static volatile uint32_t note;

/* The chip can't tell a brown-out from a power-on (RM0008 section 7.3.10), and the reset button
 * counts as power-on too. A fault ends as a software reset; for whoever asks, it is what a watchdog
 * is for. The emulator has no flags, only the note. */
enum reset_cause reset_take_cause(void)
{
    uint32_t flags = RCC->CSR, left = note;
    RCC->CSR |= RCC_CSR_RMVF;
    note = 0;
    if (flags & (RCC_CSR_IWDGRSTF | RCC_CSR_WWDGRSTF))
        return RESET_WATCHDOG;
    if (flags & RCC_CSR_PORRSTF)
        return RESET_POWER_ON;
    if (left == NOTE_FAULT)
        return RESET_WATCHDOG;
    if (left == NOTE_ASKED || (flags & RCC_CSR_SFTRSTF))
        return RESET_SOFTWARE;
    return RESET_POWER_ON;
}

static _Noreturn void restart(uint32_t why)
{
    note = why;
    memory_barrier();
    SCB_AIRCR = SCB_AIRCR_SYSRESETREQ;
    /* PM0056 section 4.4.5: it takes a moment; and the watchdog bounds it. */
    for (;;)
        memory_barrier();
}

void reset_after_fault(void)
{
    restart(NOTE_FAULT);
}

static void backup_write(uint32_t value)
{
    RCC->APB1ENR |= RCC_APB1ENR_PWREN | RCC_APB1ENR_BKPEN;
    PWR_CR |= PWR_CR_DBP;
    BKP_DR1 = value;
}

bool reset_to(enum restart_mode mode)
{
    uart_finish();
    if (mode == RESTART_BOOTLOADER) {
        backup_write(BOOTLOADER_WANTED);
        if (BKP_DR1 != BOOTLOADER_WANTED)
            return false; /* the emulator has neither the register nor the ROM */
    }
    restart(NOTE_ASKED);
}

/* AN2606: the ROM begins like any program, its stack's top and its entry are its first two words.
 * It listens on USART1, PA9 and PA10. */
void bootloader_if_asked(void)
{
    if (RCC->CR == 0)
        return;
    RCC->APB1ENR |= RCC_APB1ENR_PWREN | RCC_APB1ENR_BKPEN;
    if (BKP_DR1 != BOOTLOADER_WANTED)
        return;
    backup_write(0); /* once */
    uint32_t stack = SYSTEM_MEMORY[0], entry = SYSTEM_MEMORY[1];
    SCB_VTOR = (uint32_t)(uintptr_t)SYSTEM_MEMORY;
    __asm__ volatile("msr msp, %0\n bx %1" : : "r"(stack), "r"(entry) : "memory");
}
