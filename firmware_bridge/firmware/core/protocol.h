/* Protocol: the numbers of PROTOCOL.md. */
#ifndef OTOLITH_PROTOCOL_H
#define OTOLITH_PROTOCOL_H

enum frame_type {
    FRAME_IDENTIFY = 0x01,
    FRAME_START = 0x02,
    FRAME_STOP = 0x03,
    FRAME_SET_RATE = 0x04,
    FRAME_TIME = 0x05,
    FRAME_SELF_TEST = 0x06,
    FRAME_STATS = 0x07,
    FRAME_REG_READ = 0x08,
    FRAME_RESET = 0x09,
    FRAME_HEARTBEAT = 0x0A,
    FRAME_DATA = 0x10,
    FRAME_REPLY = 0x80,
};

enum status {
    STATUS_OK = 0,
    STATUS_BAD_ARGUMENT = 1,
    STATUS_BUSY = 2,
    STATUS_SENSOR = 3,
    STATUS_UNKNOWN = 0xFF,
};

enum data_flag {
    FLAG_GAP = 1,
    FLAG_CLIPPED = 2,
    FLAG_SELF_TEST = 4,
    FLAG_BUS_ERROR = 8,
    FLAG_EMULATED = 16,
    FLAG_CLOCK_RESTARTED = 32,
};

enum reset_cause {
    RESET_POWER_ON = 1,
    RESET_SOFTWARE = 2,
    RESET_BROWN_OUT = 3,
    RESET_WATCHDOG = 4,
};

enum {
    HEAD_BYTES = 4,
    CRC_BYTES = 4,
    MAX_BODY_BYTES = 1020,
    MAX_DECODED_BYTES = MAX_BODY_BYTES + CRC_BYTES,
    /* COBS adds one byte for every started run of 254. */
    MAX_ENCODED_BYTES = MAX_DECODED_BYTES + MAX_DECODED_BYTES / 254 + 1,
    MAX_WIRE_BYTES = MAX_ENCODED_BYTES + 1,
    MAX_JSON_CHUNK_BYTES = 960,
    DATA_HEAD_BYTES = 20,
};

#endif
