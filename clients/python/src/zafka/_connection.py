"""The thread that owns the sockets: it connects, writes, reads, and connects again.

libzmq would connect again by itself, but tells nobody what it had not sent, and sends some of it
twice or not at all. So each connection has a DEALER of its own: once it is lost (its monitor tells
so), the socket is closed with all that is in it, and what was not answered is sent by the next one.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from typing import Callable, Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import _answers
from ._errors import ProtocolError, Unanswered, ZafkaError
from ._window import Message, Window

_HANDSHAKE_TIMEOUT = 5.0
# Seconds of silence after which a relay is given up. One that Kafka holds up shows life only once
# it has seen a PING: with less, one that reads nothing of a new connection for a while would be given
# up, and get all of it twice.
_SILENCE = 60.0
_PAUSE_FIRST = 0.1
_PAUSE_LONGEST = 5.0
# Messages sent, and answers read, before the other side has its turn.
_TURN = 256
_LOST = (
    zmq.Event.DISCONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Connection:
    """Sends messages for as long as it takes, and tells of each what became of it."""

    def __init__(
        self,
        endpoint: str,
        by_id: bool,
        heartbeat: float | None,
        configure: Callable[[zmq.Socket[bytes]], None] | None,
    ) -> None:
        self._endpoint = endpoint
        self._heartbeat = heartbeat
        self._configure = configure
        self._window = Window(by_id)
        self._submitted: deque[Message] = deque()
        self._closing = threading.Event()
        self._failure: ZafkaError | None = None
        self._lock = threading.Lock()
        self._context = zmq.Context()
        # Wakes the thread; unlike ZeroMQ's sockets it may be written to by any thread.
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._dealer: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._is_ready = False
        self._pause = _PAUSE_FIRST
        # When to connect again or, before the handshake, to give the attempt up.
        self._timer = 0.0
        try:
            # A wrong endpoint is told at once.
            self._open()
        except BaseException as error:
            self._release()
            if isinstance(error, zmq.ZMQError):
                raise ValueError(f"endpoint {endpoint!r}: {error}") from None
            raise
        self._thread = threading.Thread(target=self._run, name="zafka", daemon=True)
        self._thread.start()

    def submit(self, message: Message) -> None:
        """Take a message. Any thread may call this; numbers rise."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing.is_set():
                raise RuntimeError("the producer is closed")
            self._submitted.append(message)
        self._wake()

    def close(self) -> None:
        """End. What is under way is given up."""
        with self._lock:
            self._closing.set()
        self._wake()
        self._thread.join()

    def is_own_thread(self) -> bool:
        """Whether the caller is called back."""
        return threading.current_thread() is self._thread

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"\0")
        except (BlockingIOError, OSError):
            # It is awake already, or gone.
            pass

    def _run(self) -> None:
        failure: ZafkaError = Unanswered("the producer was closed before an answer came")
        try:
            while not self._closing.is_set():
                self._poll()
                self._turn(time.monotonic())
        except ProtocolError as error:
            failure = error
        except Exception as error:  # No message may wait for a thread that has died.
            failure = ZafkaError(f"internal error: {error!r}")
        with self._lock:
            if not self._closing.is_set():
                self._failure = failure
            messages, self._submitted = list(self._submitted), deque()
        self._shut()
        self._release()
        for message in self._window.drain() + messages:
            message.done(failure)

    def _poll(self) -> None:
        """Wait until there is something to be done."""
        poller = zmq.Poller()
        poller.register(self._wake_in, zmq.POLLIN)
        if self._dealer is not None and self._monitor is not None:
            wants_room = self._is_ready and self._window.next_to_send() is not None
            poller.register(self._dealer, zmq.POLLIN | (zmq.POLLOUT if wants_room else 0))
            poller.register(self._monitor, zmq.POLLIN)
        timers = [self._window.poll_timeout()]
        if not self._is_ready:
            timers.append(self._timer)
        wait = min((at for at in timers if at is not None), default=None)
        if wait is None:
            # A message, an answer or the end of the connection ends the wait.
            poller.poll()
        else:
            poller.poll(int(max(0.0, wait - time.monotonic()) * 1000) + 1)

    def _turn(self, now: float) -> None:
        """Do all that is due."""
        try:
            while self._wake_in.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._submitted:
            self._window.take(self._submitted.popleft())
        self._receive()
        self._watch(now)
        self._send()
        for message in self._window.expire(now):
            message.done(Unanswered("no answer came in time"))
        if not self._is_ready and now >= self._timer:
            self._retry(now)

    def _receive(self, turn: int | None = _TURN) -> None:
        while self._dealer is not None and turn != 0:
            try:
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            told = self._window.handle_answer(_answers.read(frames))
            if told is not None:
                message, outcome = told
                message.done(outcome)
            turn = None if turn is None else turn - 1

    def _send(self) -> None:
        for _ in range(_TURN):
            message = self._window.next_to_send()
            if message is None or self._dealer is None:
                return
            try:
                self._dealer.send_multipart(message.frames, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._window.handle_sent()

    def _watch(self, now: float) -> None:
        """Follow what happens to the connection."""
        while self._monitor is not None:
            try:
                event: Any = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            if event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._is_ready = True
                self._pause = _PAUSE_FIRST
                self._window.handle_connected()
            elif event["event"] & _LOST:
                # Answers that came before its end are still there.
                self._receive(turn=None)
                self._lose(now)

    def _retry(self, now: float) -> None:
        """Connect again, or give up an attempt that takes too long."""
        if self._dealer is not None:
            self._lose(now)
            return
        try:
            self._open()
        except zmq.ZMQError:
            # Out of file descriptors, mostly.
            self._lose(now)

    def _lose(self, now: float) -> None:
        self._shut()
        self._window.handle_disconnected()
        self._timer = now + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, _PAUSE_LONGEST)

    def _open(self) -> None:
        dealer: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        monitor: zmq.Socket[bytes] | None = None
        try:
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.RECONNECT_IVL, -1)
            # Answers are read as they come; what is under way is bounded by the caller.
            dealer.set(zmq.RCVHWM, 0)
            # Nothing is queued for a connection that is not there.
            dealer.set(zmq.IMMEDIATE, 1)
            dealer.set(zmq.TCP_KEEPALIVE, 1)
            if self._heartbeat is not None:
                dealer.set(zmq.HEARTBEAT_IVL, int(self._heartbeat * 1000))
                dealer.set(zmq.HEARTBEAT_TIMEOUT, int(max(_SILENCE, self._heartbeat * 10) * 1000))
            if self._configure is not None:
                self._configure(dealer)
            monitor = dealer.get_monitor_socket(_LOST | zmq.Event.HANDSHAKE_SUCCEEDED)
            dealer.connect(self._endpoint)
        except BaseException:
            if monitor is not None:
                dealer.disable_monitor()
                monitor.close()
            dealer.close()
            raise
        self._dealer, self._monitor = dealer, monitor
        self._timer = time.monotonic() + _HANDSHAKE_TIMEOUT

    def _shut(self) -> None:
        self._is_ready = False
        if self._dealer is not None and self._monitor is not None:
            self._dealer.disable_monitor()
            self._monitor.close()
            self._dealer.close()
        self._dealer = self._monitor = None

    def _release(self) -> None:
        self._wake_in.close()
        self._wake_out.close()
        self._context.term()
