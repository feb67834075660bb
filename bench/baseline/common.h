/* What the C programs share: settings, the clock, and the lines that the harness reads.
 *
 * A program that receives records writes "S RECORDS BYTES" to its standard output about every 20 ms, and
 * "D" when it has written the latency samples it was asked for. */
#ifndef ZAFKA_BENCH_COMMON_H
#define ZAFKA_BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rdkafka.h>

#define TICK_NS 20000000LL

static inline int64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
  char error[256];
  if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) {
    fprintf(stderr, "%s\n", error);
    exit(1);
  }
}

static inline const char *env_or(const char *key, const char *otherwise) {
  const char *value = getenv(key);
  return value ? value : otherwise;
}

/* Counts of a receiver, and the latency samples it takes: the first 8 bytes of a value are the producer's
 * CLOCK_REALTIME in ns. */
struct counts {
  uint64_t records, bytes;
  int64_t next_line;
  uint64_t skip, wanted, taken; /* samples: left out at first, asked for, so far */
  int64_t *samples;
  const char *file;
};

static inline void counts_init(struct counts *c, const char *file, const char *skip, const char *wanted) {
  memset(c, 0, sizeof *c);
  setvbuf(stdout, NULL, _IOLBF, 0);
  c->file = file;
  c->skip = strtoull(skip, NULL, 10);
  c->wanted = strtoull(wanted, NULL, 10);
  if (c->wanted && !(c->samples = malloc(c->wanted * sizeof *c->samples))) exit(1);
}

static inline void counts_line(struct counts *c, int64_t now) {
  if (now < c->next_line) return;
  c->next_line = now + TICK_NS;
  printf("S %llu %llu\n", (unsigned long long)c->records, (unsigned long long)c->bytes);
}

static inline void counts_sample(struct counts *c, const void *value, size_t size) {
  int64_t stamp;
  if (c->taken >= c->wanted || size < sizeof stamp) return;
  if (c->skip) { c->skip--; return; }
  memcpy(&stamp, value, sizeof stamp);
  c->samples[c->taken++] = clock_ns(CLOCK_REALTIME) - stamp;
  if (c->taken < c->wanted) return;
  FILE *f = fopen(c->file, "wb");
  if (!f || fwrite(c->samples, sizeof *c->samples, c->taken, f) != c->taken || fclose(f)) {
    perror(c->file);
    exit(1);
  }
  printf("D\n");
}

/* A consumer subscribed to one topic, at the settings that served best (see c_relay.c). */
static inline rd_kafka_t *consumer_new(const char *brokers, const char *topic, const char *group) {
  char error[512];
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", brokers);
  set(conf, "group.id", group);
  set(conf, "auto.offset.reset", "earliest");
  set(conf, "enable.auto.commit", "true");
  set(conf, "enable.auto.offset.store", "false");
  set(conf, "queued.min.messages", env_or("QMIN", "300000"));
  set(conf, "queued.max.messages.kbytes", env_or("QMAXKB", "131072"));
  set(conf, "fetch.message.max.bytes", env_or("FETCHB", "4194304"));
  set(conf, "fetch.queue.backoff.ms", env_or("QBACKOFF", "5"));
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
  if (!rk) { fprintf(stderr, "%s\n", error); exit(1); }
  rd_kafka_poll_set_consumer(rk);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
  if (rd_kafka_subscribe(rk, list)) { fprintf(stderr, "subscribe failed\n"); exit(1); }
  rd_kafka_topic_partition_list_destroy(list);
  return rk;
}

#endif
