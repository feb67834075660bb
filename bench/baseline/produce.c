/* produce BROKERS TOPIC PARTITIONS VALUE_SIZE COUNT PER_SECOND
 *
 * Fills a topic as fast as it takes records (PER_SECOND 0: batches of up to 128 KiB), or sends at an even pace with
 * linger.ms = 0. A value starts with CLOCK_REALTIME in ns at the call of produce; a key is eight digits. */
#include "common.h"

#include <sys/prctl.h>

static uint64_t failed;

static void report(rd_kafka_t *rk, const rd_kafka_message_t *record, void *opaque) {
  (void)rk, (void)opaque;
  if (record->err) failed++;
}

int zafka_bench_produce(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "produce BROKERS TOPIC PARTITIONS VALUE_SIZE COUNT PER_SECOND\n");
    return 2;
  }
  int32_t partitions = atoi(argv[3]);
  size_t size = strtoull(argv[4], NULL, 10);
  uint64_t count = strtoull(argv[5], NULL, 10), rate = strtoull(argv[6], NULL, 10);
  if (partitions < 1 || size < 8 || size > 1 << 20) return 2;
  char error[512], *value = malloc(size);
  if (!value) return 1;
  /* No compression is at work; the content does not matter, but it is not all one byte either. */
  for (size_t i = 0; i < size; i++) value[i] = 'a' + (i * 7 + i / 13) % 26;

  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", argv[1]);
  set(conf, "linger.ms", rate ? "0" : "5");
  set(conf, "batch.size", "131072");
  set(conf, "queue.buffering.max.messages", "500000");
  set(conf, "acks", "1");
  set(conf, "message.max.bytes", "2000000");
  rd_kafka_conf_set_dr_msg_cb(conf, report);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (!rk) { fprintf(stderr, "%s\n", error); return 1; }
  rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);

  prctl(PR_SET_TIMERSLACK, 1UL);
  int64_t start = clock_ns(CLOCK_MONOTONIC);
  for (uint64_t i = 0; i < count; i++) {
    if (rate) {
      int64_t due = start + (int64_t)(i * 1000000000.0 / rate);
      /* Above 10,000 a second the records of a millisecond go out together; each has its own stamp. */
      if (rate > 10000) due -= (due - start) % 1000000;
      if (due > clock_ns(CLOCK_MONOTONIC)) {
        struct timespec at = {due / 1000000000LL, due % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
      }
    }
    char key[9];
    snprintf(key, sizeof key, "%08u", (unsigned)(i * 2654435761U % 100000000U));
    int64_t stamp = clock_ns(CLOCK_REALTIME);
    memcpy(value, &stamp, sizeof stamp);
    /* Runs of 1,024 in turn over the partitions: batches are as large with a thousand of them as with one. */
    int32_t partition = (int32_t)((rate ? i : i / 1024) % partitions);
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, value, size, key, 8, NULL)) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
        return 1;
      }
      rd_kafka_poll(rk, 10);
    }
    if ((i & 1023) == 0 || rate) rd_kafka_poll(rk, 0);
  }
  rd_kafka_resp_err_t rest = rd_kafka_flush(rk, 60000);
  if (rest || failed) {
    fprintf(stderr, "produce: %s, %llu records failed\n", rd_kafka_err2str(rest), (unsigned long long)failed);
    return 1;
  }
  printf("D\n");
  return 0;
}
