#include "light.h"

enum { CYCLE_MS = 2000, FLASH_MS = 120, GAP_MS = 180, DIP_MS = 60 };

bool light_on(enum light_code code, uint64_t time_us)
{
    uint32_t at_ms = (uint32_t)(time_us / 1000 % CYCLE_MS);
    if (code == LIGHT_STREAMING)
        return at_ms % 1000 >= DIP_MS;
    uint32_t flash = at_ms / (FLASH_MS + GAP_MS);
    return flash < (uint32_t)code && at_ms % (FLASH_MS + GAP_MS) < FLASH_MS;
}
