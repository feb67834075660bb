"""A pyzmq socket with CURVE, on libzmq: see the options. What it says are the words. It shows the
token in the variable TOKEN, if there is one.

A SUB subscribes to its words. An XPUB sends them when somebody subscribes. DEALER, REQ and PUSH send
each at once, and a ROUTER answers each message with them. A DEALER that counts says its word again
after each answer; its last frame is a number, the next one then. The frames of a word are parted by
"|". Lines of JSON on stdout: {"event": NAME, "value": N} of the socket's monitor, and
{"frames": [...]} with frames as text, and what the server said in its handshake as "properties".
"""

import argparse
import json
import os
import time

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

parser = argparse.ArgumentParser()
parser.add_argument("kind", help="SUB, XPUB, DEALER, REQ, ROUTER or PUSH")
parser.add_argument("endpoint")
parser.add_argument("words", nargs="*")
parser.add_argument("--ours", default="new", help="our secret certificate; a new key without it")
parser.add_argument("--server", help="connects, and this is the server's certificate")
parser.add_argument("--known", help="binds, as server, and lets in whom this folder knows")
parser.add_argument("--identity", help="the routing id")
parser.add_argument("--count", action="store_true", help="a DEALER counts with each answer")
parser.add_argument("--heartbeat", type=int, help="ms between two PINGs")
options = parser.parse_intermixed_args()

context = zmq.Context()
socket = context.socket(getattr(zmq, options.kind))
socket.linger = 0
if options.ours == "new":
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
else:
    socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(options.ours)
if options.identity:
    socket.routing_id = options.identity.encode()
if options.heartbeat:
    socket.heartbeat_ivl = options.heartbeat
if os.environ.get("TOKEN"):
    socket.setsockopt(zmq.METADATA, b"X-Token:" + os.environ["TOKEN"].encode())
monitor = socket.get_monitor_socket()
messages = [[part.encode() for part in word.split("|")] for word in options.words]


def say(**line):
    print(json.dumps(line), flush=True)


def send(*envelope):
    for message in messages:
        socket.send_multipart([*envelope, *message])


if options.kind == "SUB":
    for word in options.words:
        socket.subscribe(word)
if options.server:
    socket.curve_serverkey, _ = zmq.auth.load_certificate(options.server)
    socket.connect(options.endpoint)
else:
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=options.known)
    socket.curve_server = True
    socket.bind(options.endpoint)
if options.kind in ("DEALER", "REQ", "PUSH"):
    send()

poller = zmq.Poller()
poller.register(monitor, zmq.POLLIN)
if options.kind != "PUSH":
    poller.register(socket, zmq.POLLIN)
# A test that hangs ends before its peers do.
end = time.monotonic() + 600
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
        if options.kind == "XPUB":
            send()
        elif options.kind == "ROUTER":
            send(frames[0].bytes)
        elif options.count:
            messages[0][-1] = b"%d" % (int(messages[0][-1]) + 1)
            send()
