/* ack-producer BROKERS TOPIC VALUE_SIZE PER_SECOND FILE SKIP SAMPLES
 *
 * A plain librdkafka producer (acks = all, idempotent, linger.ms = 0) that sends at an even pace: how long each record
 * takes from the call of produce to its delivery report. Writes the samples as receivers do. */
#include "common.h"

#include <pthread.h>
#include <sys/prctl.h>

static struct counts counts;

static void report(rd_kafka_t *rk, const rd_kafka_message_t *record, void *opaque) {
  (void)rk, (void)opaque;
  if (record->err) {
    fprintf(stderr, "kafka: %s\n", rd_kafka_err2str(record->err));
    exit(1);
  }
  counts.records++;
  counts_sample(&counts, record->payload, record->len);
}

static void *poll_for_ever(void *rk) {
  for (;;) rd_kafka_poll(rk, 100);
  return NULL;
}

int zafka_bench_ack_producer(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "ack-producer BROKERS TOPIC VALUE_SIZE PER_SECOND FILE SKIP SAMPLES\n");
    return 2;
  }
  size_t size = strtoull(argv[3], NULL, 10);
  uint64_t rate = strtoull(argv[4], NULL, 10);
  if (size < 8 || size > 1 << 20 || !rate) return 2;
  counts_init(&counts, argv[5], argv[6], argv[7]);
  char error[512], *value = calloc(1, size);
  if (!value) return 1;
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", argv[1]);
  set(conf, "enable.idempotence", "true");
  set(conf, "linger.ms", "0");
  rd_kafka_conf_set_dr_msg_cb(conf, report);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (!rk) { fprintf(stderr, "%s\n", error); return 1; }
  rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);
  pthread_t poller;
  if (pthread_create(&poller, NULL, poll_for_ever, rk)) return 1;

  prctl(PR_SET_TIMERSLACK, 1UL);
  int64_t start = clock_ns(CLOCK_MONOTONIC);
  for (uint64_t i = 0;; i++) {
    int64_t due = start + (int64_t)(i * 1000000000.0 / rate);
    struct timespec at = {due / 1000000000LL, due % 1000000000LL};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    int64_t stamp = clock_ns(CLOCK_REALTIME);
    memcpy(value, &stamp, sizeof stamp);
    if (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, size, NULL, 0, NULL)) {
      fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
      return 1;
    }
  }
}
