/* An XPUB on the system's libzmq that publishes from memory as fast as its subscribers take it:
 * four frames, with a value of 100 bytes, as the relay's preset `json` has them.
 * Usage: xpub ENDPOINT SECRET_KEY|- TOPIC SUBSCRIBERS
 *
 * It is compiled when it is measured: the libzmq of the other programs has no CURVE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void *xpub;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static void set(int option, int value) {
    if (zmq_setsockopt(xpub, option, &value, sizeof value)) fail("zmq_setsockopt");
}

static void put(const char *frame, size_t size, int flags) {
    if (zmq_send(xpub, frame, size, flags) < 0) fail("zmq_send");
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: xpub ENDPOINT SECRET_KEY|- TOPIC SUBSCRIBERS\n");
        return 2;
    }
    xpub = zmq_socket(zmq_ctx_new(), ZMQ_XPUB);
    if (xpub == NULL) fail("zmq_socket");
    /* A full subscriber is waited for. */
    set(ZMQ_XPUB_NODROP, 1);
    if (strcmp(arguments[2], "-") != 0) {
        set(ZMQ_CURVE_SERVER, 1);
        if (zmq_setsockopt(xpub, ZMQ_CURVE_SECRETKEY, arguments[2], 41)) fail("the key");
    }
    if (zmq_bind(xpub, arguments[1])) fail(arguments[1]);
    /* Further subscriptions of the same prefix are not told. */
    set(ZMQ_XPUB_VERBOSE, 1);
    for (int missing = atoi(arguments[4]); missing > 0; missing--) {
        char subscription[256];
        if (zmq_recv(xpub, subscription, sizeof subscription, 0) < 0) fail("zmq_recv");
    }
    const char *topic = arguments[3];
    char value[100];
    memset(value, 'v', sizeof value);
    for (unsigned long offset = 0;; offset++) {
        char meta[200];
        int size = snprintf(meta, sizeof meta,
                            "{\"v\":1,\"topic\":\"%s\",\"partition\":0,\"offset\":%lu,"
                            "\"timestamp\":1764000000000,\"prev\":%lu}",
                            topic, offset, offset - 1);
        put(topic, strlen(topic), ZMQ_SNDMORE);
        put(meta, (size_t)size, ZMQ_SNDMORE);
        put("k-12345678", 10, ZMQ_SNDMORE);
        put(value, sizeof value, 0);
    }
}
