"""Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.

Usage: send.py ENDPOINT TOPIC [KEY]
The route is a `router` with `frames = ["{id}", "{topic}", "{key}", "{value}"]`.
"""

import json
import sys

import zmq

# Lines that have no answer yet, at the most.
WINDOW = 1000
# After so many ms without an answer all of them are sent again: libzmq connects again by itself, and
# tells nobody what was lost. Some may then be in the log twice.
SILENCE = 10_000

endpoint, topic, *key = (argument.encode() for argument in sys.argv[1:])
key = key[0] if key else b""
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(endpoint.decode())
# By id, in their order.
unanswered = {}
refused = 0


def send(id):
    socket.send_multipart([id, topic, key, unanswered[id]])


def receive():
    global refused
    id, word, body = socket.recv_multipart()
    value = unanswered.pop(id, None)
    if value is None:
        return  # The second answer to what was sent twice.
    value = value.decode(errors="replace")
    if word == b"OK":
        place = json.loads(body)
        print(f"{place['topic']}/{place['partition']} @{place['offset']} {value}")
    else:
        refused += 1
        print(f"refused {value}: {body.decode()}")


def wait():
    if socket.poll(SILENCE):
        receive()
    else:
        for id in unanswered:
            send(id)


for number, line in enumerate(sys.stdin.buffer):
    while len(unanswered) >= WINDOW:
        wait()
    id = b"%d" % number
    unanswered[id] = line.rstrip(b"\n")
    send(id)
    while socket.poll(0):
        receive()
while unanswered:
    wait()
sys.exit(1 if refused else 0)
