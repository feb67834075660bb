"""The window, without sockets and threads."""

from __future__ import annotations

import unittest

from zafka import Ack, ProtocolError, SendError
from zafka._answers import Answer, Outcome
from zafka._window import Message, Window

ACK = Ack("t", 0, 1, 5)


def window(count: int, by_id: bool = True, deadline: float | None = None) -> Window:
    """A window with messages of the numbers from 1."""
    window = Window(by_id)
    for number in range(1, count + 1):
        id = str(number).encode()
        message = Message(number, id, [id], lambda outcome: None, deadline)
        window.take(message)
    return window


def sent(window: Window) -> list[int]:
    """The numbers of all that is sent now."""
    numbers = []
    while (message := window.next_to_send()) is not None:
        window.handle_sent()
        numbers.append(message.number)
    return numbers


def answer(window: Window, id: bytes | None, outcome: Outcome = ACK) -> int:
    """The number of the message that an answer settles; 0 if none."""
    told = window.handle_answer(Answer(id, outcome))
    return told[0].number if told else 0


class WindowTest(unittest.TestCase):
    def test_nothing_is_sent_before_a_connection(self) -> None:
        w = window(2)
        self.assertEqual(sent(w), [])
        w.handle_connected()
        self.assertEqual(sent(w), [1, 2])
        self.assertEqual(sent(w), [])

    def test_by_id_answers_come_in_any_order(self) -> None:
        w = window(3)
        w.handle_connected()
        sent(w)
        self.assertEqual(answer(w, b"3"), 3)
        self.assertEqual(answer(w, b"1", SendError("kafka", "why", False)), 1)
        self.assertEqual(len(w), 1)

    def test_without_ids_answers_settle_the_first(self) -> None:
        w = window(2, by_id=False)
        w.handle_connected()
        sent(w)
        self.assertEqual([answer(w, None), answer(w, None)], [1, 2])

    def test_the_next_connection_gets_what_was_not_answered_in_order(self) -> None:
        for by_id in (True, False):
            w = window(3, by_id)
            w.handle_connected()
            sent(w)
            answer(w, b"1" if by_id else None)
            w.handle_disconnected()
            self.assertEqual(sent(w), [])
            w.handle_connected()
            self.assertEqual(sent(w), [2, 3])
            self.assertEqual(answer(w, b"2" if by_id else None), 2)

    def test_a_relay_that_shuts_down_has_answered_nothing(self) -> None:
        w = window(1)
        w.handle_connected()
        sent(w)
        self.assertEqual(answer(w, b"1", SendError("shutting_down", "why", True)), 0)
        w.handle_disconnected()
        w.handle_connected()
        self.assertEqual(sent(w), [1])

    def test_deadlines(self) -> None:
        w = window(2, deadline=10.0)
        self.assertEqual(w.poll_timeout(), 10.0)
        w.handle_connected()
        sent(w)
        self.assertEqual(w.expire(9.9), [])
        self.assertEqual([message.number for message in w.expire(10.0)], [1, 2])
        self.assertIsNone(w.poll_timeout())
        # The answer comes late.
        self.assertEqual(answer(w, b"1"), 0)

    def test_what_was_given_up_is_not_sent_and_keeps_its_place_among_answers(self) -> None:
        w = window(1, by_id=False, deadline=1.0)
        w.take(Message(2, b"2", [b"2"], lambda outcome: None))
        w.handle_connected()
        sent(w)
        w.expire(1.0)
        self.assertEqual([answer(w, None), answer(w, None)], [0, 2])
        w = window(1, deadline=1.0)
        w.expire(1.0)
        w.handle_connected()
        self.assertEqual(sent(w), [])

    def test_answers_that_fit_nothing(self) -> None:
        error = SendError("bad_message", "why", False)
        for by_id, id, outcome, told in (
            (True, None, ACK, "no id"),
            (True, None, error, "without naming it: bad_message: why"),
            (False, b"1", ACK, "has an id"),
            (False, None, ACK, "no message waits for"),
        ):
            w = window(0 if told.endswith("for") else 1, by_id)
            w.handle_connected()
            sent(w)
            with self.assertRaisesRegex(ProtocolError, told):
                answer(w, id, outcome)

    def test_drain(self) -> None:
        w = window(2)
        self.assertEqual([message.number for message in w.drain()], [1, 2])
        self.assertEqual((len(w), w.next_to_send()), (0, None))


if __name__ == "__main__":
    unittest.main()
