"""A producer for programs on asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from types import TracebackType
from typing import Awaitable, Callable, Mapping, Sequence, Union

import zmq

from ._answers import Ack
from ._errors import ZafkaError
from ._identity import Key, ServerKey, identity
from ._producer import FRAMES, WINDOW, WINDOW_BYTES, Sender, size_of
from ._tokens import Token, check_source


class AsyncProducer:
    """Sends messages to a ROUTER endpoint of zafka, from one event loop.

    The parameters are those of Producer. `token` may be a coroutine function too; it then runs on
    the event loop that the producer was made in.
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
        token: Callable[[], Union[Token, Awaitable[Token]]] | None = None,
    ) -> None:
        secured = identity(server_key, key, None if token is None else _blocking(token))
        self._window = window
        self._window_bytes = window_bytes
        self._under_way = 0
        self._bytes = 0
        self._is_closed = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._sender = Sender(endpoint, topic, frames, timeout, heartbeat, configure, secured)

    async def send(
        self,
        value: bytes,
        *,
        topic: str | None = None,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp: int | None = None,
    ) -> asyncio.Future[Ack]:
        """Send a message once there is room in the window.

        The future has its place in the log, or raises SendError. Messages are sent in the order of
        the calls.
        """
        loop = asyncio.get_running_loop()
        await self._room(loop)
        try:
            if self._is_closed:
                raise RuntimeError("the producer is closed")
            message = self._sender.write(value, topic, key, headers, timestamp)
            size = size_of(message[2])
            future: asyncio.Future[Ack] = loop.create_future()

            def done(outcome: Ack | ZafkaError) -> None:
                try:
                    loop.call_soon_threadsafe(self._done, size, future, outcome)
                except RuntimeError:
                    # The loop is closed, and nobody waits any more.
                    pass

            self._sender.submit(message, done)
            self._under_way += 1
            self._bytes += size
            return future
        finally:
            self._let_in()

    async def _room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for room, in turn with those that wait already."""
        if not self._waiters and self._has_room():
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            self._let_in()
            raise
        # It kept its place until now, so that nobody came between.
        self._waiters.remove(waiter)

    def _has_room(self) -> bool:
        has_room = self._under_way < self._window and self._bytes < self._window_bytes
        return has_room or self._is_closed

    def _let_in(self) -> None:
        """Wake the first that waits, if there is room; it wakes the next."""
        if self._waiters and self._has_room() and not self._waiters[0].done():
            self._waiters[0].set_result(None)

    async def send_and_wait(
        self,
        value: bytes,
        *,
        topic: str | None = None,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp: int | None = None,
    ) -> Ack:
        """Send a message and wait for its place in the log."""
        future = await self.send(value, topic=topic, key=key, headers=headers, timestamp=timestamp)
        return await future

    def _done(self, size: int, future: asyncio.Future[Ack], outcome: Ack | ZafkaError) -> None:
        self._under_way -= 1
        self._bytes -= size
        # The task that waited for it may have been canceled.
        if not future.done():
            if isinstance(outcome, Ack):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
        self._let_in()
        if self._under_way == 0:
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.done():
                    waiter.set_result(None)

    async def flush(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way > 0:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    async def close(self, timeout: float | None = None) -> None:
        """Wait as `flush` does, at most `timeout` seconds, then end.

        What is still under way gets Unanswered.
        """
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except asyncio.TimeoutError:
            pass
        self._is_closed = True
        self._let_in()
        await asyncio.to_thread(self._sender.close)
        # What was given up is told by now.
        await self.flush()

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A producer that fails does not wait for what it has sent before.
        await self.close(None if kind is None else 0)


def _blocking(token: Callable[[], Union[Token, Awaitable[Token]]]) -> Callable[[], Token]:
    """A function for a thread that waits for what `token` gives."""
    check_source(token)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None

    async def wait(given: Awaitable[Token]) -> Token:
        return await given

    def fetch() -> Token:
        given = token()
        if isinstance(given, (str, bytes)) or not inspect.isawaitable(given):
            return given
        if loop is None:
            raise RuntimeError("the producer was made outside of an event loop")
        # The thread is a daemon's: if the loop ends first, nobody waits for it.
        return asyncio.run_coroutine_threadsafe(wait(given), loop).result()

    return fetch
