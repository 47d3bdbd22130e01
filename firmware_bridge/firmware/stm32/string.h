/* String: the four functions that gcc may call in any program, even a freestanding one.
 *
 * Stands in for a C library's <string.h>, which this build doesn't have. */
#ifndef OTOLITH_STRING_H
#define OTOLITH_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *one, const void *other, size_t size);

#endif
