"""A SUB on pyzmq: endpoint, connect|bind, count (0: no end), seconds, then prefixes.

Each message is a line of JSON on stdout: an array of its frames in base64.
"""

import base64
import json
import sys
import time

import zmq

endpoint, way, count, seconds, *prefixes = sys.argv[1:]
socket = zmq.Context().socket(zmq.SUB)
for prefix in prefixes:
    socket.setsockopt(zmq.SUBSCRIBE, prefix.encode())
getattr(socket, way)(endpoint)

end = time.monotonic() + float(seconds)
left = int(count) or -1
while left and time.monotonic() < end:
    if not socket.poll(100):
        sys.stdout.flush()
        continue
    while left:
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        print(json.dumps([base64.b64encode(frame).decode() for frame in frames]))
        left -= 1
    sys.stdout.flush()
