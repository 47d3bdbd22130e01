/* Watchdog: restarts a board whose main loop has stood still for about two seconds.
 *
 * Never: is fed from an interrupt, which goes on when the main loop doesn't. In the emulator there
 * is none, and all this does nothing. */
#include "port.h"
#include "registers.h"

/* RM0008 section 19.3: the oscillator of 40 kHz (30 to 60) / 64 x 1250 is 2 s (1.3 to 2.7). */
enum {
    KEY_ACCESS = 0x5555,
    KEY_FEED = 0xAAAA,
    KEY_START = 0xCCCC,
    DIVIDE_BY_64 = 4,
    RELOAD = 1250,
    /* Both registers take five turns of the slow clock, 0.2 ms. */
    LOOPS = 10000,
};

void watchdog_start(void)
{
    IWDG->KR = KEY_START;
    IWDG->KR = KEY_ACCESS;
    IWDG->PR = DIVIDE_BY_64;
    IWDG->RLR = RELOAD;
    wait_without(&IWDG->SR, 3, LOOPS);
    IWDG->KR = KEY_FEED;
}

void watchdog_feed(void)
{
    IWDG->KR = KEY_FEED;
}
