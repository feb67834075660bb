"""A SUB or a DEALER with CURVE at a zafka route.

Usage: curve.py sub SERVER.key OURS.key_secret ENDPOINT PREFIX
       curve.py dealer SERVER.key OURS.key_secret ENDPOINT FRAME...

The token in the file that the variable TOKEN_FILE names, if any, is shown inside CURVE.
"""

import os
import sys

import zmq
import zmq.auth

if len(sys.argv) < 6:
    sys.exit(__doc__)
kind, server, ours, endpoint, *words = sys.argv[1:]
socket = zmq.Context().socket(zmq.SUB if kind == "sub" else zmq.DEALER)
socket.curve_serverkey, _ = zmq.auth.load_certificate(server)
socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(ours)
if "TOKEN_FILE" in os.environ:
    with open(os.environ["TOKEN_FILE"], "rb") as file:
        # Set once: a new token needs a new socket.
        socket.setsockopt(zmq.METADATA, b"X-Token:" + file.read().strip())
if kind == "sub":
    socket.subscribe(words[0])
socket.connect(endpoint)
if kind == "dealer":
    socket.send_multipart([word.encode() for word in words])
while True:
    print(*(frame.decode(errors="replace") for frame in socket.recv_multipart()), flush=True)
    if kind == "dealer":
        break
