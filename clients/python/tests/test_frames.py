"""Frames and answers."""

from __future__ import annotations

import unittest

from zafka import Ack, ProtocolError, SendError
from zafka._answers import read
from zafka._frames import Layout


class LayoutTest(unittest.TestCase):
    def write(self, *templates: str, **given: object) -> list[bytes]:
        headers = {"a": b"x"} if any("header" in text for text in templates) else {}
        topic = "t" if any("{topic}" in text for text in templates) else None
        return Layout(templates).write(b"id", topic, None, b"v", headers, 258)

    def test_fields_and_the_text_around_them(self) -> None:
        self.assertEqual(
            self.write("{id}", "{topic}", "{key}", "{value}"), [b"id", b"t", b"", b"v"]
        )
        self.assertEqual(
            self.write("s/{topic}!", "{header.a}", "{_}", "{{}}", "<{value}>"),
            [b"s/t!", b"x", b"", b"{}", b"<v>"],
        )
        self.assertEqual(self.write("{timestamp}", "{value}"), [b"258", b"v"])
        self.assertEqual(self.write("{timestamp:u64be}", "{value}"), [b"\0\0\0\0\0\0\1\2", b"v"])

    def test_mistakes_of_the_list(self) -> None:
        for templates, told in (
            (("{topic}",), "{value} is missing"),
            (("{value}", "{value}"), "{value} is there twice"),
            (("{value}", "{id}"), "{id} is the first frame"),
            (("x{id}", "{value}"), "{id} is the first frame"),
            (("{topic}{value}",), "frame 1: 2 fields"),
            (("{value}", "{tpoic}"), "frame 2: found {tpoic}; allowed: {id}"),
            (("{value}", "{offset}"), "frame 2: found {offset}"),
            (("{value}", "{header.}"), "frame 2: found {header.}"),
            (("{value}", "{timestamp:u32le}"), "frame 2: found {timestamp:u32le}"),
            (("{value}", "a}"), "frame 2, character 2: a lone brace"),
        ):
            with self.assertRaises(ValueError) as raised:
                Layout(templates)
            self.assertIn(told, str(raised.exception))

    def test_arguments_that_do_not_fit(self) -> None:
        full = Layout(["{topic}", "{header.a}", "{value}"])
        bare = Layout(["{value}"])
        for layout, topic, key, headers, told in (
            (full, None, None, {"a": b""}, "topic: missing"),
            (full, "t", b"k", {"a": b""}, "key: no frame"),
            (full, "t", None, {}, "header 'a': missing"),
            (full, "t", None, {"a": b"", "b": b""}, "header 'b': no frame"),
            (bare, "t", None, {}, "topic: no frame"),
        ):
            with self.assertRaisesRegex(ValueError, told):
                layout.check(topic, key, headers)


class AnswersTest(unittest.TestCase):
    def test_answers_are_read(self) -> None:
        body = b'{"topic":"t","partition":1,"offset":null,"timestamp":5,"new":1}'
        self.assertEqual(read([b"OK", body]).outcome, Ack("t", 1, None, 5))
        self.assertEqual(read([b"7", b"OK", body]).id, b"7")
        body = b'{"code":"kafka","message":"away","retriable":true,"error":"X","retry_after":250}'
        outcome = read([b"ERROR", body]).outcome
        assert isinstance(outcome, SendError)
        found = (outcome.code, outcome.message, outcome.retriable, outcome.kafka_error)
        self.assertEqual(found, ("kafka", "away", True, "X"))
        self.assertEqual(outcome.retry_after, 0.25)
        self.assertEqual(str(outcome), "kafka: away")

    def test_what_is_no_answer(self) -> None:
        for frames, told in (
            ([b"OK"], "1 frames"),
            ([b"OK", b"{"], "not JSON"),
            ([b"OK", b"[]"], "not a JSON object"),
            ([b"OK", b"{}"], "without 'topic'"),
            ([b"YES", b"{}"], "neither OK nor ERROR"),
        ):
            with self.assertRaisesRegex(ProtocolError, told):
                read(frames)


if __name__ == "__main__":
    unittest.main()
