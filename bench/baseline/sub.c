/* libzmq-sub ENDPOINT PREFIX message|batch FILE SKIP SAMPLES
 *
 * A SUB socket on libzmq. It counts records (a message each, or many packed ones in a batch's second frame), and takes
 * latency samples of the last frame where SAMPLES is not 0. */
#include "common.h"

#include <errno.h>
#include <zmq.h>

static uint64_t packed(const unsigned char *p, size_t size) {
  uint64_t records = 0;
  for (uint32_t length; size >= sizeof length; records++) {
    memcpy(&length, p, sizeof length);
    if (length > size - sizeof length) break;
    p += sizeof length + length;
    size -= sizeof length + length;
  }
  return records;
}

int zafka_bench_sub(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "libzmq-sub ENDPOINT PREFIX message|batch FILE SKIP SAMPLES\n");
    return 2;
  }
  struct counts counts;
  counts_init(&counts, argv[4], argv[5], argv[6]);
  int batch = !strcmp(argv[3], "batch");
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
  int hwm = 100000, timeout = 20, again = 10;
  zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
  zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
  zmq_setsockopt(socket, ZMQ_RECONNECT_IVL, &again, sizeof again);
  zmq_setsockopt(socket, ZMQ_SUBSCRIBE, argv[2], strlen(argv[2]));
  if (zmq_connect(socket, argv[1])) {
    fprintf(stderr, "connect: %s\n", zmq_strerror(errno));
    return 1;
  }
  zmq_msg_t message;
  zmq_msg_init(&message);
  for (;;) {
    int size = zmq_msg_recv(&message, socket, 0);
    if (size >= 0) {
      counts.bytes += size + (size > 255 ? 9 : 2); /* with the frame's header */
      if (zmq_msg_more(&message)) continue;
      counts.records += batch ? packed(zmq_msg_data(&message), size) : 1;
      counts_sample(&counts, zmq_msg_data(&message), size);
      if (!batch && (counts.records & 255)) continue;
    }
    counts_line(&counts, clock_ns(CLOCK_MONOTONIC));
  }
}
