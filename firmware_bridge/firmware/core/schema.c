#include "schema.h"

#include "crc32.h"

static void put(struct schema_window *window, char character)
{
    uint8_t byte = (uint8_t)character;
    size_t at = window->total++;
    window->crc = crc32(window->crc, &byte, 1);
    if (at >= window->offset && window->copied < window->room)
        window->out[window->copied++] = byte;
}

static void text(struct schema_window *window, const char *characters)
{
    while (*characters)
        put(window, *characters++);
}

static void number(struct schema_window *window, uint32_t value)
{
    if (value >= 10)
        number(window, value / 10);
    put(window, (char)('0' + value % 10));
}

/* Thousandths as a decimal number without idle zeros: 3200000 is 3200, 12500 is 12.5. */
static void thousandths(struct schema_window *window, uint32_t value)
{
    uint32_t rest = value % 1000;
    number(window, value / 1000);
    if (rest == 0)
        return;
    put(window, '.');
    for (uint32_t unit = 100; rest != 0; unit /= 10) {
        put(window, (char)('0' + rest / unit));
        rest %= unit;
    }
}

static void quoted(struct schema_window *window, const char *key, const char *value)
{
    text(window, key);
    put(window, '"');
    text(window, value);
    put(window, '"');
}

static void hex(struct schema_window *window, const uint8_t *bytes, size_t size)
{
    static const char DIGITS[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        put(window, DIGITS[bytes[i] >> 4]);
        put(window, DIGITS[bytes[i] & 15]);
    }
}

static void write_stream(struct schema_window *window, const struct schema_stream *stream)
{
    const struct sensor_about *about = &stream->sensor->driver->about;
    text(window, "{\"id\":");
    number(window, about->stream_id);
    quoted(window, ",\"name\":", about->stream);
    quoted(window, ",\"sensor\":", about->chip);
    text(window, ",\"fmt\":\"<i2\",\"ch\":[\"x\",\"y\",\"z\"]");
    quoted(window, ",\"unit\":", about->unit);
    text(window, ",\"scale\":");
    text(window, about->scale);
    text(window, ",\"range\":");
    text(window, about->range);
    text(window, ",\"rate\":");
    thousandths(window, stream->sensor->rate_millihertz);
    text(window, ",\"rates\":");
    for (uint8_t i = 0; i < about->rate_count; i++) {
        put(window, i ? ',' : '[');
        thousandths(window, about->rates_millihertz[i]);
    }
    text(window, "],\"batch\":");
    number(window, stream->batch);
    put(window, '}');
}

void schema_write(struct schema_window *window, const struct identity *identity,
                  const struct schema_stream *streams, size_t count)
{
    window->copied = window->total = 0;
    window->crc = 0;
    quoted(window, "{\"proto\":1,\"fw\":", FIRMWARE_VERSION);
    quoted(window, ",\"board\":", identity->board);
    text(window, ",\"uid\":\"");
    hex(window, identity->uid, UID_BYTES);
    text(window, "\",\"clk_ppm\":");
    number(window, identity->crystal ? 50 : 10000);
    text(window, identity->emulated ? ",\"max\":1024,\"emulated\":true" : ",\"max\":1024");
    text(window, ",\"streams\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            put(window, ',');
        write_stream(window, &streams[i]);
    }
    text(window, "]}");
}
