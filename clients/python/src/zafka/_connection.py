"""The thread that owns the sockets: it connects, writes, reads, and connects again.

libzmq would connect again by itself, but tells nobody what it had not sent, and sends some of it
twice or not at all. So each connection has a DEALER of its own: once it is lost (its monitor tells
so), the socket is closed with all that is in it, and what was not answered is sent by the next one.

A token can only be shown in a handshake. So the next one is shown by a second connection with the
same key, which is closed then: the relay's lease is the key's, and the first connection stays.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import deque
from typing import Callable

import zmq

from . import _answers
from ._errors import Refused, Unanswered, ZafkaError
from ._identity import Identity, check_endpoint
from ._lease import Lease
from ._link import Happened, Link
from ._tokens import TokenFailed, Tokens, expires
from ._window import Message, Window

_HANDSHAKE_TIMEOUT = 5.0
_PAUSE_FIRST = 0.1
_PAUSE_LONGEST = 5.0
# Messages sent, and answers read, before the other side has its turn.
_TURN = 256
# Tokens, each another one, that a relay refuses one after the other before it is given up.
_REFUSALS = 3

_log = logging.getLogger("zafka")


class Connection:
    """Sends messages for as long as it takes, and tells of each what became of it."""

    def __init__(
        self,
        endpoint: str,
        by_id: bool,
        heartbeat: float | None,
        configure: Callable[[zmq.Socket[bytes]], None] | None,
        identity: Identity | None,
    ) -> None:
        self._endpoint = endpoint
        self._heartbeat = heartbeat
        self._configure = configure
        self._identity = identity
        self._window = Window(by_id)
        self._submitted: deque[Message] = deque()
        self._closing = threading.Event()
        self._failure: ZafkaError | None = None
        self._lock = threading.Lock()
        if identity is not None:
            check_endpoint(endpoint)
        self._context = zmq.Context()
        # Wakes the thread; unlike ZeroMQ's sockets it may be written to by any thread.
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._link: Link | None = None
        self._is_ready = False
        self._pause = _PAUSE_FIRST
        # When to connect again or, before the handshake, to give the attempt up; None while the
        # token for it is fetched.
        self._timer: float | None = 0.0
        self._tokens: Tokens | None = None
        if identity is not None and identity.token is not None:
            self._tokens = Tokens(identity.token, self._wake)
        self._lease = Lease(random.uniform(0.7, 0.8))
        # The newest token that was taken or is shown now, and the one that was refused.
        self._shown: bytes | None = None
        self._refused: bytes | None = None
        self._refusals = 0
        # The connection that shows the next token, that token, and until when it may take.
        self._renewal: tuple[Link, bytes, float] | None = None
        # Whether the next answer's metadata has the end of the lease.
        self._asks_until = False
        # Why there is no connection, and the exception that it came of.
        self._trouble = ""
        self._cause: Exception | None = None
        if self._tokens is None:
            try:
                # A wrong endpoint is told at once.
                self._open(None)
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
        failure: ZafkaError = self._unanswered("the producer was closed before an answer came")
        try:
            while not self._closing.is_set():
                self._poll()
                self._turn(time.monotonic())
            failure = self._unanswered("the producer was closed before an answer came")
        except ZafkaError as error:
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
        timers = [self._window.poll_timeout()]
        if self._link is not None:
            wants_room = self._is_ready and self._window.next_to_send() is not None
            poller.register(self._link.dealer, zmq.POLLIN | (zmq.POLLOUT if wants_room else 0))
            poller.register(self._link.monitor, zmq.POLLIN)
        if self._renewal is not None:
            poller.register(self._renewal[0].monitor, zmq.POLLIN)
            timers.append(self._renewal[2])
        timers.append(self._lease.poll_timeout() if self._is_ready else self._timer)
        wait = min((at for at in timers if at is not None), default=None)
        if wait is None:
            # A message, an answer, a token or the end of the connection ends the wait.
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
        self._receive(now)
        self._watch(now)
        self._watch_renewal(now)
        self._take_token(now)
        self._send()
        for message in self._window.expire(now):
            message.done(self._unanswered("no answer came in time"))
        if not self._is_ready and self._timer is not None and now >= self._timer:
            self._retry(now)
        if self._is_ready and self._tokens is not None and self._lease.is_due(now):
            self._lease.handle_asked()
            self._tokens.ask()

    def _unanswered(self, why: str) -> Unanswered:
        trouble = "" if self._is_ready or not self._trouble else f" ({self._trouble})"
        error = Unanswered(why + trouble)
        error.__cause__ = None if self._is_ready else self._cause
        return error

    def _receive(self, now: float, turn: int | None = _TURN) -> None:
        while self._link is not None and turn != 0:
            try:
                if self._asks_until:
                    frames = self._receive_first(self._link, now)
                else:
                    frames = self._link.dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            turn = None if turn is None else turn - 1
            if _answers.is_notice(frames):
                self._lease.handle_notice(now)
                continue
            told = self._window.handle_answer(_answers.read(frames))
            if told is not None:
                message, outcome = told
                message.done(outcome)

    def _receive_first(self, link: Link, now: float) -> list[bytes]:
        """An answer, and with it when the relay ends the lease."""
        frames = link.dealer.recv_multipart(zmq.NOBLOCK, copy=False)
        self._asks_until = False
        until = _answers.lease_end(frames[0])
        if until is not None:
            self._lease.handle_told(until - time.time(), now)
        return [frame.bytes for frame in frames]

    def _send(self) -> None:
        for _ in range(_TURN):
            message = self._window.next_to_send()
            if message is None or self._link is None:
                return
            try:
                self._link.dealer.send_multipart(message.frames, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._window.handle_sent()

    def _watch(self, now: float) -> None:
        """Follow what happens to the connection."""
        while self._link is not None:
            happened = self._link.happened()
            if happened is None:
                return
            if happened is Happened.READY:
                self._is_ready = True
                self._pause = _PAUSE_FIRST
                self._refusals = 0
                self._trouble, self._cause = "", None
                self._window.handle_connected()
                self._handle_shown(now)
                self._asks_until = self._tokens is not None
                continue
            # Answers that came before its end are still there.
            self._receive(now, turn=None)
            if happened is Happened.REFUSED and self._identity is not None:
                self._handle_refused()
            elif not self._is_ready and self._identity is not None:
                self._tell("the relay was not reached, or put the key or token off: see its log")
            self._lose(now)

    def _handle_refused(self) -> None:
        """The key or the token is refused for good: it is not shown again."""
        self._refused = self._shown
        self._refusals += 1
        if self._tokens is None or self._refusals >= _REFUSALS:
            raise Refused("the relay refuses the key or the token: its log says why")
        self._tell("the relay refuses the token: its log says why")

    def _handle_shown(self, now: float) -> None:
        end = None if self._shown is None else expires(self._shown)
        self._lease.handle_shown(None if end is None else end - time.time(), now)

    def _watch_renewal(self, now: float) -> None:
        """Follow the connection that shows the next token."""
        if self._renewal is None:
            return
        link, token, until = self._renewal
        happened = link.happened()
        if happened is None and now < until:
            return
        self._end_renewal()
        if happened is Happened.READY:
            self._shown = token
            self._handle_shown(now)
        else:
            # Once the lease is over the next connection shows it again, or learns why not.
            self._lease.handle_failed(now)

    def _take_token(self, now: float) -> None:
        """Show the token that was asked for."""
        token = None if self._tokens is None else self._tokens.take()
        if token is None:
            return
        if isinstance(token, TokenFailed):
            # Not its text, which may have the token in it; who waits gets the exception itself.
            self._tell(f"the function for tokens raised {type(token.error).__name__}", token.error)
            if self._is_ready:
                self._lease.handle_failed(now)
            elif self._link is None:
                self._lose(now)
        elif self._is_ready:
            self._renew(token, now)
        elif self._link is None:
            self._connect(token, now)
        # Otherwise it was to renew a lease whose connection is lost: the next one is under way.

    def _connect(self, token: bytes, now: float) -> None:
        if token == self._refused:
            raise Refused("the relay refuses the token, and there is no other: its log says why")
        try:
            self._open(token)
        except zmq.ZMQError as error:
            self._lose_attempt(error, now)

    def _renew(self, token: bytes, now: float) -> None:
        if token == self._shown or self._renewal is not None:
            self._lease.handle_failed(now)
            return
        try:
            link = Link(self._context, self._endpoint, None, self._options(token))
        except zmq.ZMQError:
            # Out of file descriptors, mostly.
            self._lease.handle_failed(now)
            return
        self._renewal = (link, token, now + _HANDSHAKE_TIMEOUT)

    def _retry(self, now: float) -> None:
        """Connect again, or give up an attempt that takes too long."""
        if self._link is not None:
            self._lose(now)
        elif self._tokens is not None:
            self._timer = None
            self._tokens.ask()
        else:
            try:
                self._open(None)
            except zmq.ZMQError as error:
                self._lose_attempt(error, now)

    def _lose_attempt(self, error: zmq.ZMQError, now: float) -> None:
        if error.errno == zmq.EINVAL:
            raise ZafkaError(f"endpoint {self._endpoint!r}: {error}")
        # Out of file descriptors, mostly.
        self._lose(now)

    def _lose(self, now: float) -> None:
        self._shut()
        self._window.handle_disconnected()
        self._lease.handle_lost()
        self._timer = now + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, _PAUSE_LONGEST)

    def _open(self, token: bytes | None) -> None:
        self._link = Link(self._context, self._endpoint, self._heartbeat, self._options(token))
        self._shown = token
        self._timer = time.monotonic() + _HANDSHAKE_TIMEOUT

    def _options(self, token: bytes | None) -> Callable[[zmq.Socket[bytes]], None]:
        def configure(dealer: zmq.Socket[bytes]) -> None:
            if self._identity is not None:
                self._identity.configure(dealer, token)
            if self._configure is not None:
                self._configure(dealer)

        return configure

    def _tell(self, trouble: str, cause: Exception | None = None) -> None:
        if trouble != self._trouble:
            _log.warning("%s: %s", self._endpoint, trouble)
        self._trouble, self._cause = trouble, cause

    def _end_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal[0].close()
        self._renewal = None

    def _shut(self) -> None:
        self._is_ready = False
        self._asks_until = False
        self._end_renewal()
        if self._link is not None:
            self._link.close()
        self._link = None

    def _release(self) -> None:
        self._wake_in.close()
        self._wake_out.close()
        self._context.term()
