"""A producer for programs with threads."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from concurrent.futures import Future
from types import TracebackType
from typing import Callable, Mapping, Sequence

import zmq

from ._answers import Ack, Callback
from ._connection import Connection
from ._errors import ZafkaError
from ._frames import Layout
from ._identity import Identity, Key, ServerKey, identity
from ._tokens import Token
from ._window import Done, Message

FRAMES = ("{id}", "{topic}", "{key}", "{value}")
"""The frames if nothing else is said."""

WINDOW = 1000
WINDOW_BYTES = 16 << 20


class Sender:
    """What both producers share: numbers and ids, the layout, the connection."""

    def __init__(
        self,
        endpoint: str,
        topic: str | None,
        frames: Sequence[str],
        timeout: float | None,
        heartbeat: float | None,
        configure: Callable[[zmq.Socket[bytes]], None] | None,
        identity: Identity | None,
    ) -> None:
        self._topic = topic
        self._layout = Layout(frames)
        if topic is not None and not self._layout.has_topic:
            raise ValueError("topic: no frame carries it")
        self._timeout = timeout
        self._word = uuid.uuid4().hex[:16]
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        by_id = self._layout.has_id
        self._connection = Connection(endpoint, by_id, heartbeat, configure, identity)

    def write(
        self,
        value: bytes,
        topic: str | None,
        key: bytes | None,
        headers: Mapping[str, bytes] | None,
        timestamp: int | None,
    ) -> tuple[int, bytes, list[bytes]]:
        """Number, id and frames of a message, and so the place in the order of all."""
        topic = self._topic if topic is None else topic
        number = next(self._numbers)
        id = f"{self._word}-{number}".encode()
        return number, id, self._layout.write(id, topic, key, value, headers or {}, timestamp)

    def submit(self, message: tuple[int, bytes, list[bytes]], done: Done) -> None:
        number, id, frames = message
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._connection.submit(Message(number, id, frames, done, deadline))

    def is_own_thread(self) -> bool:
        return self._connection.is_own_thread()

    def close(self) -> None:
        self._connection.close()


def size_of(frames: Sequence[bytes]) -> int:
    """Memory that a message takes, about."""
    return sum(map(len, frames)) + 128


class Producer:
    """Sends messages to a ROUTER endpoint of zafka. Any thread may use it.

    `topic` is that of messages sent without one. `frames` are those of the route. At most `window`
    messages and `window_bytes` bytes are under way; then `send` waits. A message that has no answer
    after `timeout` seconds is given up with Unanswered; without it, it is sent for as long as it
    takes. `heartbeat` is the time between two PINGs in seconds, None for none. `configure` is
    called with each socket before it connects, for options of libzmq's.

    With `server_key` the connection is CURVE: the relay's public key, as a file that keygen writes
    or as 40 bytes of Z85. `key` is the own secret key, as such a file or as a pair of public and
    secret key; without it a new one is made. `token` returns an access token of a provider, which is
    shown inside CURVE. It is called on a thread of its own, for each connection and before the lease
    ends, and should return the newest token there is.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        topic: str | None = None,
        frames: Sequence[str] = FRAMES,
        window: int = WINDOW,
        window_bytes: int = WINDOW_BYTES,
        timeout: float | None = None,
        heartbeat: float | None = 1.0,
        configure: Callable[[zmq.Socket[bytes]], None] | None = None,
        server_key: ServerKey | None = None,
        key: Key | None = None,
        token: Callable[[], Token] | None = None,
    ) -> None:
        secured = identity(server_key, key, token)
        self._window = window
        self._window_bytes = window_bytes
        self._under_way = 0
        self._bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._sender = Sender(endpoint, topic, frames, timeout, heartbeat, configure, secured)

    def send(
        self,
        value: bytes,
        *,
        topic: str | None = None,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp: int | None = None,
        on_done: Callback | None = None,
        wait: float | None = None,
    ) -> Future[Ack]:
        """Send a message; the future has its place in the log, or raises SendError.

        `on_done` is called with the same, on the producer's own thread: it must not block, and if
        it sends, a full window is a TimeoutError at once. Otherwise waits while the window is full,
        at most `wait` seconds (TimeoutError). `timestamp` is in ms since the epoch.
        """
        future: Future[Ack] = Future()
        # It cannot be canceled: it may be in the log already.
        future.set_running_or_notify_cancel()
        with self._changed:
            # The thread that makes room cannot wait for it.
            wait = 0 if self._sender.is_own_thread() else wait
            if not self._changed.wait_for(self._has_room, wait):
                raise TimeoutError("the window is full")
            if self._is_closed:
                raise RuntimeError("the producer is closed")
            message = self._sender.write(value, topic, key, headers, timestamp)
            size = size_of(message[2])
            self._sender.submit(message, lambda outcome: self._done(size, future, on_done, outcome))
            self._under_way += 1
            self._bytes += size
        return future

    def _has_room(self) -> bool:
        has_room = self._under_way < self._window and self._bytes < self._window_bytes
        return has_room or self._is_closed

    def _done(
        self, size: int, future: Future[Ack], on_done: Callback | None, outcome: Ack | ZafkaError
    ) -> None:
        try:
            if isinstance(outcome, Ack):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
            if on_done is not None:
                ack = outcome if isinstance(outcome, Ack) else None
                error = None if isinstance(outcome, Ack) else outcome
                _call(on_done, ack, error)
        finally:
            with self._changed:
                self._under_way -= 1
                self._bytes -= size
                self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until nothing is under way, at most `timeout` seconds (TimeoutError)."""
        if self._sender.is_own_thread():
            raise RuntimeError("a callback cannot wait for what comes after it")
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way == 0, timeout):
                raise TimeoutError(f"{self._under_way} messages are under way")

    def close(self, timeout: float | None = None) -> None:
        """Wait as `flush` does, then end.

        What is still under way after `timeout` seconds gets Unanswered.
        """
        try:
            self.flush(timeout)
        except TimeoutError:
            pass
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._sender.close()

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A producer that fails does not wait for what it has sent before.
        self.close(None if kind is None else 0)


def _call(on_done: Callback, ack: Ack | None, error: ZafkaError | None) -> None:
    """Call back; what the callback raises is its own affair, and is shown as threads show it."""
    try:
        on_done(ack, error)
    except Exception:
        import sys

        kind, raised, trace = sys.exc_info()
        if kind is not None:
            thread = threading.current_thread()
            threading.excepthook(threading.ExceptHookArgs((kind, raised, trace, thread)))
