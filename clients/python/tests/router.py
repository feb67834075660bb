"""A ROUTER that plays the relay."""

from __future__ import annotations

import json
import threading
from typing import Callable

import zmq
from zmq.auth.thread import ThreadAuthenticator

Answers = Callable[["Router", bytes, "list[bytes]"], None]


def place(offset: int, partition: int = 0) -> bytes:
    """The body of an OK."""
    fields = {"topic": "t", "partition": partition, "offset": offset, "timestamp": 5}
    return json.dumps(fields).encode()


def failure(code: str, retriable: bool = False, **more: str) -> bytes:
    """The body of an ERROR."""
    return json.dumps({"code": code, "message": "why", "retriable": retriable, **more}).encode()


class Router:
    """Answers each message by `answer(router, peer, frames)` on a thread; keeps all that came.

    With `secret`, a secret key, it is CURVE; with `known`, a folder of keys, it refuses others.
    """

    def __init__(
        self, answer: Answers, port: int = 0, secret: bytes | None = None, known: str | None = None
    ) -> None:
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        if known is not None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve(location=known)
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVHWM, 0)
        if secret is not None:
            self._socket.set(zmq.CURVE_SERVER, 1)
            self._socket.set(zmq.CURVE_SECRETKEY, secret)
        self.port = port or self._socket.bind_to_random_port("tcp://127.0.0.1")
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.messages: list[list[bytes]] = []
        self.peers: set[bytes] = set()
        # The tokens that connections with a message have shown.
        self.tokens: list[str] = []
        self._answer = answer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, peer: bytes, *frames: bytes) -> None:
        self._socket.send_multipart([peer, *frames])

    def _run(self) -> None:
        while not self._ended.is_set():
            if self._socket.poll(10):
                first, *rest = self._socket.recv_multipart(copy=False)
                peer, frames = first.bytes, [frame.bytes for frame in rest]
                self.peers.add(peer)
                self._keep_token(rest[0])
                self.messages.append(frames)
                self._answer(self, peer, frames)

    def _keep_token(self, frame: zmq.Frame) -> None:
        try:
            token = str(frame.get("X-Token"))
        except zmq.ZMQError:
            return
        if token not in self.tokens:
            self.tokens.append(token)

    def close(self) -> None:
        """End all connections."""
        self._ended.set()
        self._thread.join()
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def acknowledge(router: Router, peer: bytes, frames: list[bytes]) -> None:
    """Say of each message that it is at the offset of its place."""
    router.send(peer, frames[0], b"OK", place(len(router.messages) - 1))


def ignore(router: Router, peer: bytes, frames: list[bytes]) -> None:
    """Answer nothing."""
