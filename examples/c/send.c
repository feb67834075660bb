/* Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.
 * Usage: send ENDPOINT TOPIC [KEY]
 *
 * The route is a `router` with `frames = ["{id}", "{topic}", "{key}", "{value}"]`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <zmq.h>

enum {
    /* Lines from the oldest without an answer to the newest, at the most. */
    WINDOW = 1000,
    /* After so many ms without an answer all of them are sent again: libzmq connects again by
     * itself, and tells nobody what was lost. Some may then be in the log twice. */
    SILENCE = 10000
};

static void *dealer;
static const char *topic, *key;
/* Each line at its number modulo WINDOW; NULL once it is answered. */
static char *lines[WINDOW];
static uint64_t oldest, next;
static int refused;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static void put(const char *frame, int flags) {
    if (zmq_send(dealer, frame, strlen(frame), flags) < 0) fail("zmq_send");
}

static void send_line(uint64_t number) {
    char id[21];
    snprintf(id, sizeof id, "%" PRIu64, number);
    put(id, ZMQ_SNDMORE);
    put(topic, ZMQ_SNDMORE);
    put(key, ZMQ_SNDMORE);
    put(lines[number % WINDOW], 0);
}

/* The next frame as text, cut to the buffer; 0 if there is no message. */
static int get(char *frame, size_t size, int flags) {
    int got = zmq_recv(dealer, frame, size - 1, flags);
    if (got < 0 && zmq_errno() == EAGAIN) return 0;
    if (got < 0) fail("zmq_recv");
    frame[(size_t)got < size ? (size_t)got : size - 1] = 0;
    return 1;
}

static int is_more(void) {
    int more = 0;
    size_t size = sizeof more;
    if (zmq_getsockopt(dealer, ZMQ_RCVMORE, &more, &size)) fail("ZMQ_RCVMORE");
    return more;
}

/* The answer is JSON as zafka writes it: without white space, and a topic needs no escapes. */
static void show(const char *line, const char *word, const char *body) {
    char landed[250];
    const char *from = strstr(body, "\"topic\":\""), *partition = strstr(body, "\"partition\":"),
               *offset = strstr(body, "\"offset\":");
    if (strcmp(word, "OK") == 0 && from && partition && offset &&
        sscanf(from, "\"topic\":\"%249[^\"]", landed) == 1) {
        /* The offset is null if the cluster did not tell it. */
        offset += strlen("\"offset\":");
        printf("%s/%ld @%.*s %s\n", landed, strtol(partition + strlen("\"partition\":"), NULL, 10),
               (int)strcspn(offset, ",}"), offset, line);
    } else {
        refused = 1;
        printf("refused %s: %s\n", line, body);
    }
}

/* Takes an answer; 0 if there is none. */
static int receive(int flags) {
    char id[21], word[8], body[4096];
    if (!get(id, sizeof id, flags)) return 0;
    if (!is_more()) {
        fprintf(stderr, "no answer with an id: do the route's `frames` begin with {id}?\n");
        exit(1);
    }
    get(word, sizeof word, 0);
    if (!is_more()) {
        fprintf(stderr, "no answer with an id: do the route's `frames` begin with {id}?\n");
        exit(1);
    }
    get(body, sizeof body, 0);
    uint64_t number = strtoull(id, NULL, 10);
    char **line = &lines[number % WINDOW];
    /* Otherwise it is the second answer to what was sent twice. */
    if (number >= oldest && number < next && *line != NULL) {
        show(*line, word, body);
        free(*line);
        *line = NULL;
    }
    while (oldest < next && lines[oldest % WINDOW] == NULL) oldest++;
    return 1;
}

static void wait_for_answer(void) {
    if (receive(0)) return;
    for (uint64_t number = oldest; number < next; number++)
        if (lines[number % WINDOW] != NULL) send_line(number);
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: send ENDPOINT TOPIC [KEY]\n");
        return 2;
    }
    topic = arguments[2];
    key = count > 3 ? arguments[3] : "";
    dealer = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    if (dealer == NULL) fail("zmq_socket");
    int silence = SILENCE;
    if (zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &silence, sizeof silence)) fail("ZMQ_RCVTIMEO");
    if (zmq_connect(dealer, arguments[1])) fail(arguments[1]);

    char *line = NULL;
    size_t size = 0;
    for (ssize_t length; (length = getline(&line, &size, stdin)) >= 0;) {
        if (length > 0 && line[length - 1] == '\n') line[length - 1] = 0;
        while (next - oldest >= WINDOW) wait_for_answer();
        lines[next % WINDOW] = line;
        line = NULL, size = 0;
        send_line(next++);
        while (receive(ZMQ_DONTWAIT)) {
        }
    }
    while (oldest < next) wait_for_answer();
    return refused;
}
