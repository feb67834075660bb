/* consumer BROKERS TOPIC GROUP FILE SKIP SAMPLES
 *
 * A plain librdkafka consumer on the batch queue: what Kafka's own client costs before anything is relayed. It
 * counts records, and takes latency samples where SAMPLES is not 0. */
#include "common.h"

int zafka_bench_consumer(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "consumer BROKERS TOPIC GROUP FILE SKIP SAMPLES\n");
    return 2;
  }
  struct counts counts;
  counts_init(&counts, argv[4], argv[5], argv[6]);
  rd_kafka_t *rk = consumer_new(argv[1], argv[2], argv[3]);
  rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);

  enum { N = 5000 };
  static rd_kafka_message_t *batch[N];
  for (;;) {
    batch[0] = rd_kafka_consume_queue(queue, 20);
    ssize_t n = 0;
    if (batch[0]) {
      /* A sample is taken when its record is here, not when the batch is. */
      counts_sample(&counts, batch[0]->payload, batch[0]->err ? 0 : batch[0]->len);
      ssize_t more = rd_kafka_consume_batch_queue(queue, 0, batch + 1, N - 1);
      n = 1 + (more > 0 ? more : 0);
    }
    for (ssize_t i = 0; i < n; i++) {
      rd_kafka_message_t *record = batch[i];
      if (record->err) {
        fprintf(stderr, "kafka: %s\n", rd_kafka_message_errstr(record));
      } else {
        counts.records++;
        counts.bytes += record->len + record->key_len;
        if (i) counts_sample(&counts, record->payload, record->len);
        if (i + 1 == n || batch[i + 1]->err || batch[i + 1]->partition != record->partition)
          rd_kafka_offset_store(record->rkt, record->partition, record->offset);
      }
      rd_kafka_message_destroy(record);
    }
    counts_line(&counts, clock_ns(CLOCK_MONOTONIC));
  }
}
