"""Both producers against a ROUTER that plays the relay."""

from __future__ import annotations

import asyncio
import threading
import unittest

from router import Router, acknowledge, failure, ignore, place
from zafka import Ack, AsyncProducer, Producer, ProtocolError, SendError, Unanswered, ZafkaError

# Long enough that only a mistake comes to it.
DEADLINE = 60


class ProducerTest(unittest.TestCase):
    def test_futures_have_the_place(self) -> None:
        with Router(acknowledge) as router, Producer(router.endpoint, topic="t") as producer:
            futures = [producer.send(b"%d" % n, key=b"k") for n in range(3000)]
            offsets = [future.result(DEADLINE).offset for future in futures]
            self.assertEqual(offsets, list(range(3000)))
            self.assertEqual(
                [m[1:] for m in router.messages[:2]], [[b"t", b"k", b"0"], [b"t", b"k", b"1"]]
            )

    def test_callbacks_have_the_same(self) -> None:
        def answer(router: Router, peer: bytes, frames: list[bytes]) -> None:
            if frames[3] == b"bad":
                router.send(peer, frames[0], b"ERROR", failure("kafka", True, error="X"))
            else:
                acknowledge(router, peer, frames)

        told: list[tuple[Ack | None, ZafkaError | None]] = []
        with Router(answer) as router, Producer(router.endpoint, topic="t") as producer:
            for value in (b"good", b"bad"):
                producer.send(value, on_done=lambda ack, error: told.append((ack, error)))
            producer.flush(DEADLINE)
        ack, error = told[0][0], told[1][1]
        self.assertEqual((ack, told[0][1], told[1][0]), (Ack("t", 0, 0, 5), None, None))
        assert isinstance(error, SendError)
        self.assertEqual((error.code, error.retriable, error.kafka_error), ("kafka", True, "X"))

    def test_a_callback_may_send_and_may_fail(self) -> None:
        done = threading.Event()
        raised: list[str] = []
        before = threading.excepthook
        threading.excepthook = lambda args: raised.append(str(args.exc_value))
        try:
            with Router(acknowledge) as router, Producer(router.endpoint, topic="t") as producer:

                def first(ack: Ack | None, error: ZafkaError | None) -> None:
                    producer.send(b"2", on_done=lambda ack, error: done.set())
                    producer.flush()

                producer.send(b"1", on_done=first)
                self.assertTrue(done.wait(DEADLINE))
        finally:
            threading.excepthook = before
        self.assertEqual(raised, ["a callback cannot wait for what comes after it"])

    def test_the_window_is_bounded(self) -> None:
        with Router(ignore) as router:
            for window, window_bytes in ((2, 10_000), (1000, 300)):
                producer = Producer(
                    router.endpoint, topic="t", window=window, window_bytes=window_bytes
                )
                futures = [producer.send(b"v" * 20) for _ in range(2)]
                with self.assertRaises(TimeoutError):
                    producer.send(b"v", wait=0.01)
                producer.close(timeout=0)
                for future in futures:
                    with self.assertRaises(Unanswered):
                        future.result(0)
                with self.assertRaisesRegex(RuntimeError, "closed"):
                    producer.send(b"v")

    def test_what_was_not_answered_is_sent_again(self) -> None:
        def every_second(router: Router, peer: bytes, frames: list[bytes]) -> None:
            if len(router.messages) % 2 == 0:
                acknowledge(router, peer, frames)

        first = Router(every_second)
        producer = Producer(first.endpoint, topic="t")
        futures = [producer.send(b"%d" % n) for n in range(100)]
        for future in futures[1::2]:
            future.result(DEADLINE)
        first.close()
        futures.append(producer.send(b"100"))
        with Router(acknowledge, first.port) as second:
            for future in futures:
                future.result(DEADLINE)
            values = [int(message[3]) for message in second.messages]
            self.assertEqual(values, [*range(0, 100, 2), 100])
            producer.close()

    def test_a_relay_that_comes_later(self) -> None:
        with Router(ignore) as router:
            port = router.port
        with Producer(f"tcp://127.0.0.1:{port}", topic="t") as producer:
            future = producer.send(b"v")
            with self.assertRaises(TimeoutError):
                producer.flush(0.01)
            with Router(acknowledge, port):
                self.assertEqual(future.result(DEADLINE).offset, 0)

    def test_a_message_is_given_up_in_time(self) -> None:
        with Router(ignore) as router:
            with Producer(router.endpoint, topic="t", timeout=0.05) as producer:
                with self.assertRaises(Unanswered) as raised:
                    producer.send(b"v").result(DEADLINE)
                self.assertTrue(raised.exception.retriable)

    def test_an_endpoint_that_answers_something_else(self) -> None:
        def answer(router: Router, peer: bytes, frames: list[bytes]) -> None:
            router.send(peer, b"ERROR", failure("bad_message"))

        with Router(answer) as router:
            producer = Producer(router.endpoint, topic="t")
            with self.assertRaisesRegex(ProtocolError, "without naming it: bad_message: why"):
                producer.send(b"v").result(DEADLINE)
            with self.assertRaises(ProtocolError):
                # The first one may come before the producer's thread has ended.
                for _ in range(2):
                    producer.send(b"v").result(DEADLINE)
            producer.close()

    def test_arguments(self) -> None:
        for endpoint, given, told in (
            ("nonsense", {"topic": "t"}, "endpoint 'nonsense'"),
            ("tcp://127.0.0.1:1", {"topic": "t", "frames": ["{value}"]}, "topic: no frame"),
            ("tcp://127.0.0.1:1", {"frames": ["{vlaue}"]}, "found {vlaue}"),
        ):
            with self.assertRaisesRegex(ValueError, told):
                Producer(endpoint, **given)
        with Router(acknowledge) as router, Producer(router.endpoint) as producer:
            with self.assertRaisesRegex(ValueError, "topic: missing"):
                producer.send(b"v")
            self.assertEqual(producer.send(b"v", topic="t").result(DEADLINE).offset, 0)

    def test_without_an_id(self) -> None:
        def answer(router: Router, peer: bytes, frames: list[bytes]) -> None:
            router.send(peer, b"OK", place(len(router.messages)))

        frames = ["{header.h}", "{value}"]
        with Router(answer) as router, Producer(router.endpoint, frames=frames) as producer:
            futures = [producer.send(b"v", headers={"h": b"x"}) for _ in range(3)]
            offsets = [future.result(DEADLINE).offset for future in futures]
            self.assertEqual((offsets, router.messages[0]), ([1, 2, 3], [b"x", b"v"]))

    def test_many_threads(self) -> None:
        with Router(acknowledge) as router:
            producer = Producer(router.endpoint, topic="t", window=10)

            def work(name: int) -> None:
                for number in range(200):
                    producer.send(b"%d %d" % (name, number))

            threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            producer.close(DEADLINE)
            values = [tuple(map(int, message[3].split())) for message in router.messages]
        self.assertEqual(sorted(values), [(name, n) for name in range(5) for n in range(200)])
        for name in range(5):
            numbers = [number for other, number in values if other == name]
            self.assertEqual(numbers, sorted(numbers), "each thread's order is kept")


class AsyncProducerTest(unittest.IsolatedAsyncioTestCase):
    async def test_messages_are_answered(self) -> None:
        with Router(acknowledge) as router:
            async with AsyncProducer(router.endpoint, topic="t", window=10) as producer:
                futures = [await producer.send(b"%d" % n) for n in range(500)]
                acks = await asyncio.gather(*futures)
                self.assertEqual([ack.offset for ack in acks], list(range(500)))
                ack = await producer.send_and_wait(b"last")
                self.assertEqual(ack, Ack("t", 0, 500, 5))

    async def test_errors_are_exceptions(self) -> None:
        def answer(router: Router, peer: bytes, frames: list[bytes]) -> None:
            router.send(peer, frames[0], b"ERROR", failure("not_allowed"))

        with Router(answer) as router:
            async with AsyncProducer(router.endpoint, topic="t") as producer:
                with self.assertRaises(SendError) as raised:
                    await producer.send_and_wait(b"v")
                self.assertEqual(raised.exception.code, "not_allowed")

    async def test_those_that_wait_for_room_keep_their_order(self) -> None:
        with Router(acknowledge) as router:
            async with AsyncProducer(router.endpoint, topic="t", window=1) as producer:
                tasks = [asyncio.create_task(producer.send(b"%d" % n)) for n in range(50)]
                # One that is canceled while it waits leaves the others their turns.
                await asyncio.sleep(0)
                tasks[10].cancel()
                sent = await asyncio.gather(*tasks, return_exceptions=True)
                self.assertIsInstance(sent[10], asyncio.CancelledError)
                await producer.flush()
            values = [int(message[3]) for message in router.messages]
            self.assertEqual(values, [n for n in range(50) if n != 10])

    async def test_closing_gives_up_what_is_not_answered(self) -> None:
        with Router(ignore) as router:
            producer = AsyncProducer(router.endpoint, topic="t", window=1)
            future = await producer.send(b"v")
            waiting = asyncio.create_task(producer.send(b"w"))
            await asyncio.sleep(0)
            await producer.close(timeout=0)
            with self.assertRaises(Unanswered):
                await future
            with self.assertRaisesRegex(RuntimeError, "closed"):
                await waiting


if __name__ == "__main__":
    unittest.main()
