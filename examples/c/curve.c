/* A SUB or a DEALER with CURVE at a zafka route.
 * Usage: curve sub SERVER.key OURS.key_secret ENDPOINT PREFIX
 *        curve dealer SERVER.key OURS.key_secret ENDPOINT FRAME...
 *        curve enrol SERVER.key OURS.key_secret DOOR
 * The token in the file that the variable TOKEN_FILE names, if any, is shown inside CURVE. enrol sends
 * it to the relay's door instead, which lets in the key: other sockets with that key need no token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void *zocket;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

/* Sets an option to a key of a certificate, as `zafka keygen` writes it. */
static void set_key(int option, const char *path, const char *name) {
    char line[256], format[40], key[41];
    snprintf(format, sizeof format, " %s = \"%%40[^\"]\"", name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, format, key) == 1) {
            if (zmq_setsockopt(zocket, option, key, sizeof key)) fail(name);
            fclose(file);
            return;
        }
    fprintf(stderr, "%s: no %s\n", path, name);
    exit(1);
}

/* Reads the token in a file. */
static void read_token(const char *path, char token[8192 + 1]) {
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    if (file == NULL || fscanf(file, "%8192s", token) != 1) {
        fprintf(stderr, "TOKEN_FILE: no token\n");
        exit(1);
    }
    fclose(file);
}

/* Shows the token in a file. An option keeps the first: a new token needs a new socket. */
static void show_token(const char *path) {
    char property[8 + 8192 + 1] = "X-Token:";
    read_token(path, property + 8);
    /* ZMQ_METADATA: every release since 4.2.4 has it, and zmq.h names it among its drafts alone. */
    if (zmq_setsockopt(zocket, 95, property, strlen(property))) fail("X-Token");
}

/* Sends a frame. */
static void send_frame(const char *frame, int flags) {
    if (zmq_send(zocket, frame, strlen(frame), flags) < 0) fail("zmq_send");
}

/* Sends the token in a file to be enrolled with our key. */
static void send_token(const char *path) {
    char token[8192 + 1], body[sizeof token + 32];
    read_token(path, token);
    /* A token has no character that JSON would escape. */
    snprintf(body, sizeof body, "{\"id\":\"1\",\"token\":\"%s\"}", token);
    send_frame("ZAFKA/1", ZMQ_SNDMORE);
    send_frame("ENROL", ZMQ_SNDMORE);
    send_frame(body, 0);
}

/* Prints the frames of the next message, which is waited for. */
static void print_message(void) {
    int more = 1;
    for (size_t size = sizeof more; more; putchar(more ? ' ' : '\n')) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, zocket, 0) < 0) fail("zmq_msg_recv");
        fwrite(zmq_msg_data(&frame), 1, zmq_msg_size(&frame), stdout);
        zmq_msg_close(&frame);
        if (zmq_getsockopt(zocket, ZMQ_RCVMORE, &more, &size)) fail("ZMQ_RCVMORE");
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    int is_enrol = count == 5 && strcmp(arguments[1], "enrol") == 0;
    if (count < 6 && !is_enrol) {
        fprintf(stderr, "usage: curve sub|dealer|enrol SERVER.key OURS.key_secret ENDPOINT WORD...\n");
        return 2;
    }
    int is_sub = strcmp(arguments[1], "sub") == 0;
    zocket = zmq_socket(zmq_ctx_new(), is_sub ? ZMQ_SUB : ZMQ_DEALER);
    if (zocket == NULL) fail("zmq_socket");
    set_key(ZMQ_CURVE_SERVERKEY, arguments[2], "public-key");
    set_key(ZMQ_CURVE_PUBLICKEY, arguments[3], "public-key");
    set_key(ZMQ_CURVE_SECRETKEY, arguments[3], "secret-key");
    if (getenv("TOKEN_FILE") != NULL && !is_enrol) show_token(getenv("TOKEN_FILE"));
    if (is_sub && zmq_setsockopt(zocket, ZMQ_SUBSCRIBE, arguments[5], strlen(arguments[5])))
        fail(arguments[5]);
    if (zmq_connect(zocket, arguments[4])) fail(arguments[4]);
    if (is_enrol) send_token(getenv("TOKEN_FILE"));
    for (int at = 5; !is_sub && at < count; at++)
        send_frame(arguments[at], at + 1 < count ? ZMQ_SNDMORE : 0);
    do print_message();
    while (is_sub);
    return 0;
}
