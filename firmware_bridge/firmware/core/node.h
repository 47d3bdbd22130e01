/* Node: a whole board. Requests in, replies and batches out.
 *
 * In: bytes from the host as they come, and a call of `node_poll` whenever there may be something
 * to do, at least each 5 ms. Out: frames through `board->send`.
 * Never: speaks before START or 5 s after the host's last valid frame, answers DATA or a reply (a
 * tty may echo them), waits. */
#ifndef OTOLITH_NODE_H
#define OTOLITH_NODE_H

#include "frame.h"
#include "light.h"
#include "ring.h"
#include "sampler.h"
#include "schema.h"

struct node {
    const struct board *board;
    struct identity identity;
    struct ring *received;
    struct receiver receiver;
    struct sampler sampler;
    uint64_t host_us;  /* when the host was heard last */
    uint64_t heard_us; /* when the request that is being answered was complete */
    uint32_t schema_crc;
    uint16_t reply_size;  /* of the reply that waits for the line, or 0 */
    bool sensor_missing;
    bool restart_pending; /* when the reply has left */
    enum restart_mode restart_mode;
    uint8_t reply[MAX_BODY_BYTES + CRC_BYTES];
    uint8_t wire[MAX_WIRE_BYTES];
};

void node_init(struct node *node, const struct board *board, struct ring *received,
               const struct identity *identity);

/* Adds a sensor as a stream, and tells whether it answers. One that doesn't is left out, unless
 * `anyway`: then START says that it doesn't. */
bool node_add(struct node *node, struct sensor *sensor, bool anyway);

void node_poll(struct node *node);

/* Whether `node_poll` has something to do now; else the core may sleep until an interrupt. */
bool node_busy(const struct node *node);

/* What the LED should say. */
enum light_code node_light(const struct node *node);

/* The schema through a window; and its CRC anew after a setting has changed. */
void node_schema(const struct node *node, struct schema_window *window);
void node_describe(struct node *node);

/* Answers one request (dispatch.c); gives the size of the reply in `node->reply`, or 0. */
size_t dispatch(struct node *node, const uint8_t *body, size_t size);

#endif
