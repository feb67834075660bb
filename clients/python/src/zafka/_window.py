"""What is under way: which message is sent when, which answer is whose, what is sent again.

No sockets, no threads, no clock. What a lost connection left without an answer is sent again by the
next one, in the order of the numbers, so that messages of one partition keep their order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Callable, Union

from ._answers import Ack, Answer
from ._errors import ProtocolError, SendError, ZafkaError

Done = Callable[[Union[Ack, ZafkaError]], None]


@dataclass
class Message:
    """A message under way."""

    number: int
    id: bytes
    frames: list[bytes]
    done: Done
    """Gets what became of it, once."""
    deadline: float | None = None
    """When it is given up."""


class Window:
    """The messages under way."""

    def __init__(self, by_id: bool) -> None:
        self._by_id = by_id
        self._messages: dict[int, Message] = {}
        self._numbers: dict[bytes, int] = {}
        self._to_send: deque[int] = deque()
        # What the present connection was given and has not answered, in this order.
        self._sent: dict[int, None] = {}
        self._last = 0
        self._is_connected = False

    def __len__(self) -> int:
        return len(self._messages)

    def take(self, message: Message) -> None:
        """Take a message; numbers rise."""
        self._messages[message.number] = message
        self._numbers[message.id] = message.number
        self._to_send.append(message.number)
        self._last = message.number

    def handle_connected(self) -> None:
        """A connection is there: all that has no answer is sent by it."""
        self._is_connected = True
        self._sent.clear()
        self._to_send = deque(sorted(self._messages))

    def handle_disconnected(self) -> None:
        """The connection is lost."""
        self._is_connected = False
        self._sent.clear()

    def next_to_send(self) -> Message | None:
        """The message that the connection gets next."""
        while self._is_connected and self._to_send:
            message = self._messages.get(self._to_send[0])
            if message is not None:
                return message
            # It was given up.
            self._to_send.popleft()
        return None

    def handle_sent(self) -> None:
        """The connection has taken the message that was next."""
        self._sent[self._to_send.popleft()] = None

    def handle_answer(self, answer: Answer) -> tuple[Message, Ack | SendError] | None:
        """The message that an answer settles, and how; None if it settles none.

        ProtocolError if the answer fits nothing that was sent.
        """
        number = self._answered(answer)
        outcome = answer.outcome
        if isinstance(outcome, SendError) and outcome.code == "shutting_down":
            # The connection ends, and the next one gets the message.
            return None
        message = self._forget(number)
        return None if message is None else (message, outcome)

    def _answered(self, answer: Answer) -> int:
        if not self._by_id:
            if answer.id is not None:
                raise ProtocolError("an answer has an id: the frames of the route begin with {id}")
            if not self._sent:
                raise ProtocolError("an answer came that no message waits for")
            number = next(iter(self._sent))
            del self._sent[number]
            return number
        if answer.id is None:
            if isinstance(answer.outcome, SendError):
                raise ProtocolError(f"a message was refused without naming it: {answer.outcome}")
            raise ProtocolError("an answer has no id: the route's frames do not begin with {id}")
        number = self._numbers.get(answer.id, 0)
        self._sent.pop(number, None)
        # The answer to a message that was given up comes late.
        return number

    def _forget(self, number: int) -> Message | None:
        message = self._messages.pop(number, None)
        if message is not None:
            self._numbers.pop(message.id, None)
        return message

    def poll_timeout(self) -> float | None:
        """When `expire` has something to do."""
        # All have the same time or none, so that the first has the first deadline.
        first = next(iter(self._messages.values()), None)
        return None if first is None else first.deadline

    def expire(self, now: float) -> list[Message]:
        """The messages that are given up now."""
        late = []
        for message in self._messages.values():
            if message.deadline is None or message.deadline > now:
                break
            late.append(message)
        for message in late:
            self._forget(message.number)
        return late

    def drain(self) -> list[Message]:
        """All that is under way; nothing is then."""
        messages = list(self._messages.values())
        self._messages.clear()
        self._numbers.clear()
        self._to_send.clear()
        self._sent.clear()
        return messages
