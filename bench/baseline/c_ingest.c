/* c-ingest BROKERS TOPIC ENDPOINT
 *
 * The way back as an expert writes it by hand: a libzmq PULL socket to librdkafka's idempotent producer, acks = all.
 * A message has two frames, of which the second is the value; it is copied, for libzmq's small messages live in the
 * zmq_msg_t itself. Writes the lines of a receiver: the records that the cluster has acknowledged. */
#include "common.h"

#include <errno.h>
#include <zmq.h>

static uint64_t acknowledged, bytes;

static void report(rd_kafka_t *rk, const rd_kafka_message_t *record, void *opaque) {
  (void)rk, (void)opaque;
  if (record->err) {
    fprintf(stderr, "kafka: %s\n", rd_kafka_err2str(record->err));
    exit(1);
  }
  acknowledged++;
  bytes += record->len;
}

static void receive(zmq_msg_t *message, void *socket) {
  while (zmq_msg_recv(message, socket, 0) < 0)
    if (errno != EINTR && errno != EAGAIN) {
      fprintf(stderr, "recv: %s\n", zmq_strerror(errno));
      exit(1);
    }
}

int zafka_bench_c_ingest(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "c-ingest BROKERS TOPIC ENDPOINT\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  char error[512];
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", argv[1]);
  set(conf, "enable.idempotence", "true");
  set(conf, "linger.ms", env_or("LINGER", "5"));
  set(conf, "batch.size", env_or("BATCH", "1000000"));
  set(conf, "batch.num.messages", env_or("BATCHN", "10000"));
  set(conf, "queue.buffering.max.messages", "1000000");
  set(conf, "queue.buffering.max.kbytes", "131072");
  set(conf, "sticky.partitioning.linger.ms", env_or("STICKY", "10"));
  rd_kafka_conf_set_dr_msg_cb(conf, report);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (!rk) { fprintf(stderr, "%s\n", error); return 1; }
  rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);

  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_PULL);
  int hwm = atoi(env_or("RCVHWM", "100000")), timeout = 20;
  zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
  zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
  if (zmq_bind(socket, argv[3])) { fprintf(stderr, "bind: %s\n", zmq_strerror(errno)); return 1; }
  printf("R\n");

  zmq_msg_t first, value;
  zmq_msg_init(&first);
  zmq_msg_init(&value);
  int64_t next_line = 0;
  for (uint64_t got = 1;; got++) {
    /* While nothing comes, what is acknowledged is still told. */
    while (zmq_msg_recv(&first, socket, 0) < 0) {
      if (errno != EINTR && errno != EAGAIN) { fprintf(stderr, "recv: %s\n", zmq_strerror(errno)); return 1; }
      rd_kafka_poll(rk, 0);
      printf("S %llu %llu\n", (unsigned long long)acknowledged, (unsigned long long)bytes);
    }
    receive(&value, socket);
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, zmq_msg_data(&value),
                            zmq_msg_size(&value), NULL, 0, NULL)) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
        return 1;
      }
      rd_kafka_poll(rk, 10);
    }
    if (got & 127) continue;
    rd_kafka_poll(rk, 0);
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    if (now < next_line) continue;
    next_line = now + TICK_NS;
    printf("S %llu %llu\n", (unsigned long long)acknowledged, (unsigned long long)bytes);
  }
}
