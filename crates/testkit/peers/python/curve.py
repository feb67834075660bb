"""A pyzmq socket with CURVE: type, endpoint, the server's certificate, our secret certificate or
"new", seconds, then what it says. It shows the token in the variable TOKEN, if there is one.

A SUB subscribes to what it says, a DEALER or PUSH sends each as a message whose frames are parted
by "|". Lines of JSON on stdout: {"event": NAME, "value": N} of the socket's monitor,
{"frames": [...]} with frames as text, and what the server said in its handshake as "properties".
"""

import json
import os
import sys
import time

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

kind, endpoint, server, ours, seconds, *words = sys.argv[1:]
context = zmq.Context()
socket = context.socket(getattr(zmq, kind))
socket.linger = 0
socket.curve_serverkey, _ = zmq.auth.load_certificate(server)
if ours == "new":
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
else:
    socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(ours)
if os.environ.get("TOKEN"):
    socket.setsockopt(zmq.METADATA, b"X-Token:" + os.environ["TOKEN"].encode())
monitor = socket.get_monitor_socket()


def say(**line):
    print(json.dumps(line), flush=True)


if kind == "SUB":
    for word in words:
        socket.subscribe(word)
socket.connect(endpoint)
if kind != "SUB":
    for word in words:
        socket.send_multipart([part.encode() for part in word.split("|")])

poller = zmq.Poller()
poller.register(monitor, zmq.POLLIN)
if kind != "PUSH":
    poller.register(socket, zmq.POLLIN)
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    ready = dict(poller.poll(100))
    if monitor in ready:
        event = recv_monitor_message(monitor)
        say(event=zmq.Event(event["event"]).name, value=event["value"])
    if socket in ready:
        frames = socket.recv_multipart(copy=False)
        properties = {}
        for name in ["X-Zafka-Subject", "X-Zafka-Until"]:
            try:
                properties[name] = frames[0].get(name)
            except zmq.ZMQError:
                pass
        say(frames=[frame.bytes.decode("latin-1") for frame in frames], properties=properties)
