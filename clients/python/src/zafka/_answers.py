"""What a ROUTER endpoint answers (docs/protocol.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Optional, Sequence, Union

import zmq

from ._errors import ProtocolError, SendError, ZafkaError


@dataclass(frozen=True)
class Ack:
    """A message is in Kafka's log, there."""

    topic: str
    partition: int
    offset: int | None
    """None if the cluster did not tell it."""
    timestamp: int
    """Of the record in the log, in ms since the epoch."""


Outcome = Union[Ack, SendError]

Callback = Callable[[Optional[Ack], Optional[ZafkaError]], None]
"""Gets the place of a message in the log, or why it has none."""


@dataclass(frozen=True)
class Answer:
    """An answer, and the id of its message where it has one."""

    id: bytes | None
    outcome: Outcome


def read(frames: Sequence[bytes]) -> Answer:
    """Read an answer; ProtocolError if it is none."""
    if len(frames) not in (2, 3):
        raise ProtocolError(f"a message of {len(frames)} frames is no answer")
    *ids, word, body = frames
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"an answer that is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ProtocolError("an answer that is not a JSON object")
    if word not in (b"OK", b"ERROR"):
        raise ProtocolError(f"an answer that is neither OK nor ERROR: {word[:16]!r}")
    try:
        outcome = _ack(fields) if word == b"OK" else _error(fields)
    except KeyError as error:
        raise ProtocolError(f"an answer without {error}") from None
    return Answer(ids[0] if ids else None, outcome)


def _ack(fields: dict[str, Any]) -> Ack:
    return Ack(fields["topic"], fields["partition"], fields["offset"], fields["timestamp"])


def _error(fields: dict[str, Any]) -> SendError:
    retriable = bool(fields.get("retriable", False))
    after = fields.get("retry_after")
    seconds = after / 1000 if isinstance(after, (int, float)) else None
    return SendError(fields["code"], fields["message"], retriable, fields.get("error"), seconds)


def is_notice(frames: Sequence[bytes]) -> bool:
    """Whether this answers nothing: the relay says that the lease of the key will soon be over."""
    return len(frames) == 3 and frames[0] == b"ZAFKA/1" and frames[1] == b"LEASE"


def lease_end(frame: zmq.Frame) -> float | None:
    """The end of the lease, in s since the epoch, which the relay told in its handshake."""
    try:
        text = frame.get("X-Zafka-Until")
        # Before Python 3.11 the letter is not understood.
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (zmq.ZMQError, ValueError, OverflowError):
        return None
