/* Replay: runs files through the fuzz target, for compilers that have no libFuzzer.
 *
 * In: names of files. Out: 0, or an abort at the file that breaks it, whose name is the last
 * printed. */
#include <stdint.h>
#include <stdio.h>

enum { MAX_INPUT_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **names)
{
    static uint8_t input[MAX_INPUT_BYTES];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (file == NULL) {
            perror(names[i]);
            return 2;
        }
        size_t size = fread(input, 1, sizeof input, file);
        fclose(file);
        puts(names[i]);
        fflush(stdout);
        LLVMFuzzerTestOneInput(input, size);
    }
    return 0;
}
