"""A DEALER, and the monitor that tells what becomes of its connection."""

from __future__ import annotations

import enum
from typing import Any, Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

# Seconds of silence after which a relay is given up. One that Kafka holds up shows life only once
# it has seen a PING: with less, one that reads nothing of a new connection for a while would be given
# up, and get all of it twice.
_SILENCE = 60.0
_LOST = (
    zmq.Event.DISCONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Happened(enum.Enum):
    """What a monitor tells."""

    READY = 1
    LOST = 2
    REFUSED = 3
    """Lost, and the same key and token will not be let in."""


class Link:
    """One connection, or an attempt at one. libzmq does not connect again."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        heartbeat: float | None,
        configure: Callable[[zmq.Socket[bytes]], None],
    ) -> None:
        dealer: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        monitor: zmq.Socket[bytes] | None = None
        try:
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.RECONNECT_IVL, -1)
            # Answers are read as they come; what is under way is bounded by the caller.
            dealer.set(zmq.RCVHWM, 0)
            # Nothing is queued for a connection that is not there.
            dealer.set(zmq.IMMEDIATE, 1)
            dealer.set(zmq.TCP_KEEPALIVE, 1)
            if heartbeat is not None:
                dealer.set(zmq.HEARTBEAT_IVL, int(heartbeat * 1000))
                dealer.set(zmq.HEARTBEAT_TIMEOUT, int(max(_SILENCE, heartbeat * 10) * 1000))
            configure(dealer)
            monitor = dealer.get_monitor_socket(_LOST | zmq.Event.HANDSHAKE_SUCCEEDED)
            dealer.connect(endpoint)
        except BaseException:
            if monitor is not None:
                dealer.disable_monitor()
                monitor.close()
            dealer.close()
            raise
        self.dealer = dealer
        self.monitor = monitor

    def happened(self) -> Happened | None:
        """What happened next, without waiting."""
        while True:
            try:
                event: Any = recv_monitor_message(self.monitor, zmq.NOBLOCK)
            except zmq.Again:
                return None
            if event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
                return Happened.READY
            if event["event"] == zmq.Event.HANDSHAKE_FAILED_AUTH:
                return Happened.REFUSED
            if event["event"] & _LOST:
                return Happened.LOST

    def close(self) -> None:
        """Close it, with all that is in it."""
        self.dealer.disable_monitor()
        self.monitor.close()
        self.dealer.close()
