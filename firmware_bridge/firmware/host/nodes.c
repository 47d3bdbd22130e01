/* Nodes: the operations on a whole board.
 *
 * NODE_NEW: emulated u8, crystal u8, reset_cause u8, uid 12 bytes, size u8 and name, count u8, then
 * for each sensor driver u8 and anyway u8 -> there u8 for each. */
#include "harness.h"

#include "node.h"

#include <string.h>

static struct node node;
static struct ring received;
static struct sensor sensors[MAX_STREAMS];
static char name[256];
static bool made;

void nodes_reset(void)
{
    memset(&received, 0, sizeof received);
    made = false;
}

static void new_node(struct request *request)
{
    struct identity identity = {.board = name};
    nodes_reset();
    identity.emulated = take_u8(request);
    identity.crystal = take_u8(request);
    identity.reset_cause = take_u8(request);
    for (int i = 0; i < UID_BYTES; i++)
        identity.uid[i] = take_u8(request);
    uint8_t size = take_u8(request);
    for (uint8_t i = 0; i < size; i++)
        name[i] = (char)take_u8(request);
    name[size] = 0;
    node_init(&node, &world.board, &received, &identity);
    uint8_t count = take_u8(request);
    if (count > MAX_STREAMS)
        host_die("more sensors than a node has streams");
    for (uint8_t i = 0; i < count; i++) {
        sensors[i] = (struct sensor){.driver = driver_at(take_u8(request))};
        give_u8(node_add(&node, &sensors[i], take_u8(request)));
    }
    made = true;
}

static void feed(struct request *request)
{
    while (request->left > 0)
        ring_push(&received, take_u8(request));
    give_u32(received.overruns);
}

static void run(struct request *request)
{
    uint32_t polls = take_u32(request);
    uint64_t step_ns = (uint64_t)take_u32(request) * 1000, due_ns = world.now_ns;
    for (uint32_t i = 0; i < polls; i++) {
        due_ns += step_ns;
        if (world.now_ns < due_ns)
            world.now_ns = due_ns;
        node_poll(&node);
    }
}

static void tell_state(void)
{
    enum light_code code = node_light(&node);
    give_u8(node_busy(&node));
    give_u8((uint8_t)code);
    give_u8(light_on(code, world.now_ns / 1000));
    give_u32(node.schema_crc);
}

bool nodes_run(enum operation_code code, struct request *request)
{
    if (code < OP_NODE_NEW || code > OP_NODE_STATE)
        return false;
    if (code != OP_NODE_NEW && !made)
        host_die("NODE_NEW comes first");
    if (code == OP_NODE_NEW)
        new_node(request);
    else if (code == OP_NODE_FEED)
        feed(request);
    else if (code == OP_NODE_RUN)
        run(request);
    else
        tell_state();
    return true;
}
