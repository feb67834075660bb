"""A sender on pyzmq: endpoint, connect|bind, seconds, socket type, topic, count, window, value size.

Sends topic, key, value; a DEALER or REQ before them an id. The key of message N is "kN" with N
modulo 5, its value N in 20 digits, filled with "." to its size. At most `window` messages of a
DEALER are without an answer. Each answer is a line of JSON on stdout: an array of its frames in
base64. A PUB sends with pauses, so that nothing is dropped.
"""

import base64
import json
import sys
import time

import zmq

endpoint, way, seconds, kind, topic, count, window, size = sys.argv[1:]
count, window, size = int(count), int(window), int(size)
end = time.monotonic() + float(seconds)
context = zmq.Context()
socket = context.socket(getattr(zmq, kind.upper()))
socket.setsockopt(zmq.RCVTIMEO, 100)
getattr(socket, way)(endpoint)
answered = kind in ("dealer", "req")
sent = received = 0


def message(number):
    frames = [topic.encode(), b"k%d" % (number % 5), (b"%020d" % number).ljust(size, b".")]
    return [str(number).encode()] + frames if answered else frames


def receive():
    global received
    try:
        frames = socket.recv_multipart()
    except zmq.Again:
        return
    print(json.dumps([base64.b64encode(frame).decode() for frame in frames]))
    received += 1


while sent < count or (answered and received < count):
    if time.monotonic() > end:
        sys.exit("too late")
    if sent < count and (not answered or sent - received < (1 if kind == "req" else window)):
        socket.send_multipart(message(sent))
        sent += 1
        if kind == "pub":
            time.sleep(0.001)
    else:
        receive()
sys.stdout.flush()
# What libzmq still holds is sent before the end.
socket.close(linger=int(max(0, end - time.monotonic()) * 1000))
context.term()
