/* c-relay BROKERS TOPIC GROUP ENDPOINT PARTS PEERS
 *
 * The relay an expert writes by hand: librdkafka's batch queue to a libzmq XPUB socket that blocks at its
 * high-water mark and never drops. PARTS 1: the value. PARTS 4: topic | {"partition","offset","timestamp"} | key |
 * value. It begins when PEERS subscriptions are there. Offsets are stored after the send and committed every 5 s.
 *
 * What was tried is in bench/README.md, "The C relay's settings". */
#include "common.h"

#include <errno.h>
#include <zmq.h>

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, zmq_strerror(errno));
  exit(1);
}

static void destroy(void *data, void *hint) {
  (void)data;
  rd_kafka_message_destroy(hint);
}

static void frame(void *socket, const void *data, size_t size) {
  while (zmq_send(socket, data, size, ZMQ_SNDMORE) < 0)
    if (errno != EINTR) die("send");
}

/* Sends the value and lets the record go: at once, or when libzmq is done with it. */
static void value(void *socket, rd_kafka_message_t *record, size_t zero_copy) {
  if (record->len >= zero_copy) {
    zmq_msg_t message;
    if (zmq_msg_init_data(&message, record->payload, record->len, destroy, record)) die("message");
    while (zmq_msg_send(&message, socket, 0) < 0)
      if (errno != EINTR) die("send");
    return;
  }
  while (zmq_send(socket, record->payload, record->len, 0) < 0)
    if (errno != EINTR) die("send");
  rd_kafka_message_destroy(record);
}

static char *text(char *p, const char *literal) {
  size_t n = strlen(literal);
  memcpy(p, literal, n);
  return p + n;
}

static char *number(char *p, int64_t v) {
  char digits[24];
  int i = 0;
  uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
  do digits[i++] = '0' + u % 10;
  while (u /= 10);
  if (v < 0) *p++ = '-';
  while (i) *p++ = digits[--i];
  return p;
}

static void *bound(const char *endpoint, int peers) {
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_XPUB);
  int hwm = atoi(env_or("SNDHWM", "10000")), one = 1, files = peers + 100;
  zmq_ctx_set(context, ZMQ_MAX_SOCKETS, files);
  zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
  zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &one, sizeof one);
  zmq_setsockopt(socket, ZMQ_XPUB_VERBOSE, &one, sizeof one); /* equal subscriptions are told too: we count them */
  if (zmq_bind(socket, endpoint)) die("bind");
  for (int subscribed = 0; subscribed < peers;) {
    char buffer[256];
    int size = zmq_recv(socket, buffer, sizeof buffer, 0);
    if (size > 0 && buffer[0] == 1) subscribed++;
  }
  return socket;
}

int zafka_bench_c_relay(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "c-relay BROKERS TOPIC GROUP ENDPOINT 1|4 PEERS\n");
    return 2;
  }
  const char *topic = argv[2];
  size_t topic_size = strlen(topic), zero_copy = strtoull(env_or("ZERO_COPY", "512"), NULL, 10);
  int parts = atoi(argv[5]);
  void *socket = bound(argv[4], atoi(argv[6]));
  rd_kafka_t *rk = consumer_new(argv[1], topic, argv[3]);
  rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);

  enum { N = 5000 };
  static rd_kafka_message_t *batch[N];
  char meta[160];
  for (;;) {
    /* Wait for one, then take what else is there: a lone record is not held back for a batch. */
    batch[0] = rd_kafka_consume_queue(queue, 100);
    if (!batch[0]) continue;
    ssize_t more = rd_kafka_consume_batch_queue(queue, 0, batch + 1, N - 1), n = 1 + (more > 0 ? more : 0);
    for (ssize_t i = 0; i < n; i++) {
      rd_kafka_message_t *record = batch[i];
      if (record->err) {
        fprintf(stderr, "kafka: %s\n", rd_kafka_message_errstr(record));
        rd_kafka_message_destroy(record);
        continue;
      }
      if (parts == 4) {
        rd_kafka_timestamp_type_t kind;
        char *p = text(meta, "{\"partition\":");
        p = text(number(p, record->partition), ",\"offset\":");
        p = text(number(p, record->offset), ",\"timestamp\":");
        p = text(number(p, rd_kafka_message_timestamp(record, &kind)), "}");
        frame(socket, topic, topic_size);
        frame(socket, meta, p - meta);
        frame(socket, record->key, record->key_len);
      }
      /* One store for each run of a partition within the batch. With the record still ours: it names the topic. */
      if (i + 1 == n || (i & 255) == 255 || batch[i + 1]->err || batch[i + 1]->partition != record->partition)
        rd_kafka_offset_store(record->rkt, record->partition, record->offset);
      value(socket, record, zero_copy);
    }
  }
}
