"""Prints the records of a zafka route with `frames = "json"`, and what is missing among them.

Usage: subscribe.py ENDPOINT [PREFIX...]
"""

import json
import sys

import zmq


def text(frame, is_null):
    return "null" if is_null else frame.decode(errors="replace")


endpoint, *prefixes = sys.argv[1:]
socket = zmq.Context().socket(zmq.SUB)
for prefix in prefixes or [""]:
    socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
socket.connect(endpoint)

# The newest offset of each partition.
last = {}
while True:
    _, meta, key, value = socket.recv_multipart()
    meta = json.loads(meta)
    partition = f"{meta['topic']}/{meta['partition']}"
    offset, prev = meta["offset"], meta.get("prev")
    seen = last.get(partition)
    if seen is None:
        pass
    elif offset <= seen:
        print(f"{partition} back: @{seen} to @{offset}")
    elif prev is None:
        # The relay has just begun with the partition: it knows of no record before this one.
        if offset > seen + 1:
            print(f"{partition} unknown: @{seen + 1} to @{offset - 1}")
    elif prev > seen:
        print(f"{partition} gap: @{seen + 1} to @{prev}")
    last[partition] = offset
    key, value = text(key, meta.get("null_key")), text(value, meta.get("null_value"))
    print(f"{partition} @{offset} {key} {value}", flush=True)
