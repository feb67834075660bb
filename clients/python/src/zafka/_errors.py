"""The exceptions of this package."""

from __future__ import annotations


class ZafkaError(Exception):
    """Any error of this package but mistakes in arguments, which are ValueError."""


class SendError(ZafkaError):
    """A message is not in the log, or not known to be.

    `code` is one of docs/protocol.md; `retriable` says whether the same message may be taken later,
    and `retry_after` after how many seconds another try may help; `kafka_error` is Kafka's name for
    the error where `code` is "kafka".
    """

    def __init__(
        self,
        code: str,
        message: str,
        retriable: bool,
        kafka_error: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retriable = retriable
        self.kafka_error = kafka_error
        self.retry_after = retry_after


class Unanswered(SendError):
    """No answer came in time, or before the producer was closed.

    The message may be in the log or not.
    """

    def __init__(self, message: str) -> None:
        super().__init__("unanswered", message, True)


class ProtocolError(ZafkaError):
    """The endpoint answers something that fits nothing that was sent.

    Mostly, the frames of the producer are not those of the route. The producer is useless then.
    """


class Refused(ZafkaError):
    """The relay refuses the key or the token, and waiting would not change that.

    Its log says why: it tells strangers nothing. The producer is useless then.
    """
