/* Prints the records of a zafka route with `frames = "json"`, and what is missing among them.
 * Usage: subscribe ENDPOINT [PREFIX...] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { ROUTING, META, KEY, VALUE, FRAMES };

/* The newest offset of each partition, in a list: a relay has few of them. */
struct partition {
    char topic[250];
    int64_t number, last;
    struct partition *next;
};

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

/* A number of the meta frame, which is JSON as zafka writes it: without white space. Within a JSON
 * string each quote has a backslash before it, so "name": with plain quotes is the field itself. */
static int number(const char *meta, const char *name, int64_t *value) {
    char field[32];
    snprintf(field, sizeof field, "\"%s\":", name);
    const char *found = strstr(meta, field);
    return found != NULL && sscanf(found + strlen(field), "%" SCNd64, value) == 1;
}

static struct partition *find(struct partition **all, const char *topic, int64_t number) {
    for (struct partition *each = *all; each != NULL; each = each->next)
        if (each->number == number && strcmp(each->topic, topic) == 0) return each;
    struct partition *new = calloc(1, sizeof *new);
    if (new == NULL) fail("calloc");
    snprintf(new->topic, sizeof new->topic, "%s", topic);
    new->number = number;
    new->last = -1;
    new->next = *all;
    return *all = new;
}

static void missing(const struct partition *partition, const char *meta, int64_t offset) {
    int64_t seen = partition->last, prev;
    const char *notice = NULL;
    int64_t from = seen + 1, to = 0;
    if (offset <= seen)
        notice = "back", from = seen, to = offset;
    else if (number(meta, "prev", &prev)) {
        if (prev > seen) notice = "gap", to = prev;
    } else if (offset > seen + 1)
        /* The relay has just begun with the partition: it knows of no record before this one. */
        notice = "unknown", to = offset - 1;
    if (notice != NULL)
        printf("%s/%" PRId64 " %s: @%" PRId64 " to @%" PRId64 "\n", partition->topic,
               partition->number, notice, from, to);
}

/* The next frame of a message, which is followed by another one or not. */
static void receive(void *socket, zmq_msg_t *frame, int is_followed) {
    zmq_msg_init(frame);
    if (zmq_msg_recv(frame, socket, 0) < 0) fail("zmq_msg_recv");
    if (zmq_msg_more(frame) != is_followed) {
        fprintf(stderr, "not four frames: is the route's `frames` \"json\"?\n");
        exit(1);
    }
}

static char *text(zmq_msg_t *frame) {
    char *text = strndup(zmq_msg_data(frame), zmq_msg_size(frame));
    if (text == NULL) fail("strndup");
    return text;
}

static void print(zmq_msg_t *frame, int is_null) {
    putchar(' ');
    if (is_null)
        fputs("null", stdout);
    else
        fwrite(zmq_msg_data(frame), 1, zmq_msg_size(frame), stdout);
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: subscribe ENDPOINT [PREFIX...]\n");
        return 2;
    }
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_SUB);
    if (socket == NULL) fail("zmq_socket");
    for (int at = 2; at < count; at++)
        if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, arguments[at], strlen(arguments[at])))
            fail(arguments[at]);
    if (count == 2 && zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0)) fail("zmq_setsockopt");
    if (zmq_connect(socket, arguments[1])) fail(arguments[1]);

    struct partition *partitions = NULL;
    zmq_msg_t frames[FRAMES];
    for (;;) {
        for (int at = 0; at < FRAMES; at++) receive(socket, &frames[at], at != VALUE);
        /* The routing frame of this preset is the topic. */
        char *topic = text(&frames[ROUTING]), *meta = text(&frames[META]);
        int64_t at, offset;
        if (!number(meta, "partition", &at) || !number(meta, "offset", &offset)) {
            fprintf(stderr, "no partition and offset in the second frame: %s\n", meta);
            return 1;
        }
        struct partition *partition = find(&partitions, topic, at);
        if (partition->last >= 0) missing(partition, meta, offset);
        partition->last = offset;
        printf("%s/%" PRId64 " @%" PRId64, topic, at, offset);
        print(&frames[KEY], strstr(meta, "\"null_key\":true") != NULL);
        print(&frames[VALUE], strstr(meta, "\"null_value\":true") != NULL);
        putchar('\n');
        fflush(stdout);
        for (int each = 0; each < FRAMES; each++) zmq_msg_close(&frames[each]);
        free(topic);
        free(meta);
    }
}
