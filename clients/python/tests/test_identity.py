"""Keys, tokens and leases; both producers against a CURVE server of libzmq."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
import time
import unittest
from typing import Any, Callable

import zmq
import zmq.auth

from router import Router, acknowledge
from zafka import AsyncProducer, Producer, Refused, Unanswered
from zafka._identity import Identity, check_endpoint
from zafka._lease import Lease
from zafka._tokens import checked, expires

DEADLINE = 60


def token(number: int = 0, life: float = 600) -> bytes:
    """What looks like a token; nobody verifies it here."""
    payload = json.dumps({"exp": time.time() + life, "jti": str(number)}).encode()
    return b"e30." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b".c2ln"


class LeaseTest(unittest.TestCase):
    def test_it_is_renewed_before_its_end(self) -> None:
        lease = Lease(0.8)
        self.assertIsNone(lease.poll_timeout())
        lease.handle_shown(100, now=10)
        self.assertEqual(lease.poll_timeout(), 90)
        self.assertEqual([lease.is_due(89), lease.is_due(90)], [False, True])
        lease.handle_asked()
        self.assertFalse(lease.is_due(1000))
        lease.handle_shown(200, now=95)
        self.assertEqual(lease.poll_timeout(), 95 + 160)

    def test_the_relay_s_own_limit_counts_from_then_on(self) -> None:
        lease = Lease(0.8)
        lease.handle_shown(1000, now=10)
        lease.handle_told(45, now=15)
        self.assertEqual(lease.poll_timeout(), 10 + 40)
        lease.handle_shown(1000, now=50)
        self.assertEqual(lease.poll_timeout(), 50 + 40)
        # A token that ends earlier still does.
        lease.handle_shown(10, now=100)
        self.assertEqual(lease.poll_timeout(), 108)
        # That the relay lets it live longer than it does is no news.
        lease.handle_told(40, now=100)
        self.assertEqual(lease.poll_timeout(), 108)

    def test_a_token_that_does_not_tell_its_end(self) -> None:
        lease = Lease(0.8)
        lease.handle_shown(None, now=10)
        self.assertIsNone(lease.poll_timeout())
        lease.handle_told(100, now=10)
        self.assertEqual(lease.poll_timeout(), 90)

    def test_failures_and_short_lives_come_to_no_loop(self) -> None:
        lease = Lease(0.8)
        for life in (0, -100, 0.1):
            lease.handle_shown(life, now=10)
            self.assertEqual(lease.poll_timeout(), 11)
        lease.handle_shown(100, now=0)
        for now, next_try in ((80, 84), (96, 97), (101, 102)):
            lease.handle_asked()
            lease.handle_failed(now)
            due = lease.poll_timeout()
            assert due is not None
            self.assertAlmostEqual(due, next_try)

    def test_a_notice_and_a_loss(self) -> None:
        lease = Lease(0.8)
        lease.handle_notice(5)
        self.assertFalse(lease.is_due(1000))
        lease.handle_shown(100, now=0)
        lease.handle_notice(5)
        self.assertTrue(lease.is_due(5))
        lease.handle_lost()
        self.assertIsNone(lease.poll_timeout())


class ArgumentsTest(unittest.TestCase):
    def test_tokens(self) -> None:
        self.assertEqual(checked(" a.b.c\n"), b"a.b.c")
        self.assertEqual(checked(b"a.b.c"), b"a.b.c")
        for wrong in ("", "SECRET SECRET", "SECRET\0", "SECRET\u00e4", "SECRET\ud800", None, 7):
            with self.assertRaises(ValueError) as raised:
                checked(wrong)
            self.assertNotIn("SECRET", str(raised.exception))
        with self.assertRaisesRegex(ValueError, "found 8193 bytes"):
            checked("S" * 8193)

    def test_ends_of_tokens(self) -> None:
        end = expires(token(life=600))
        assert end is not None
        self.assertAlmostEqual(end, time.time() + 600, delta=60)
        for other in (b"opaque", b"a.b.c", b"e30.e30.x", b"e30.WzFd.x", b"e30." + b"W" * 8000 + b".x"):
            self.assertIsNone(expires(other))
        for exp in ('"soon"', "1e999", "null", "[1]"):
            payload = base64.urlsafe_b64encode(b'{"exp":%s}' % exp.encode()).rstrip(b"=")
            self.assertIsNone(expires(b"e30." + payload + b".x"))

    def test_keys(self) -> None:
        public, secret = zmq.curve_keypair()
        other, _ = zmq.curve_keypair()
        with tempfile.TemporaryDirectory() as folder:
            shown, hidden = zmq.auth.create_certificates(folder, "me")
            Identity(shown, hidden, None)
            Identity(public, (public, secret), None)
            nothing = f"{folder}/none.key"
            for server, key, told in (
                (None, hidden, "server_key: missing; key is"),
                (nothing, None, f"server_key: .*{nothing}"),
                (public, shown, "key: .*no secret key in it"),
                (public[1:], None, "server_key: not a key"),
                (public, (public, secret + b"x"), "key: not a key"),
                (public, (other, secret), "not that of the secret one"),
            ):
                with self.assertRaisesRegex(ValueError, told) as raised:
                    Producer("tcp://127.0.0.1:1", server_key=server, key=key)
                self.assertNotIn(secret.decode(), str(raised.exception))
        with self.assertRaisesRegex(ValueError, "server_key: missing; token is"):
            Producer("tcp://127.0.0.1:1", token=lambda: "SECRET")
        text: Any = "SECRET"
        for made in (Producer, AsyncProducer):
            with self.assertRaisesRegex(ValueError, "token: not callable") as raised:
                made("tcp://127.0.0.1:1", server_key=public, token=text)
            self.assertNotIn("SECRET", str(raised.exception))

    def test_endpoints(self) -> None:
        public, _ = zmq.curve_keypair()
        for wrong in ("ipc:///tmp/x", "tcp://127.0.0.1", "tcp:///x:1", "nonsense"):
            with self.assertRaisesRegex(ValueError, "allowed with server_key: tcp://HOST:PORT"):
                Producer(wrong, server_key=public, token=lambda: "t")
        check_endpoint("tcp://[::1]:5558")


class ServerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.public, self.secret = zmq.curve_keypair()

    def test_keys_alone(self) -> None:
        with Router(acknowledge, secret=self.secret) as router:
            with Producer(router.endpoint, topic="t", server_key=self.public) as producer:
                self.assertEqual(producer.send(b"v").result(DEADLINE).offset, 0)
        self.assertEqual(router.tokens, [])

    def test_the_token_is_shown_and_the_next_one_before_its_end(self) -> None:
        given: list[bytes] = []
        third = threading.Event()

        def fetch() -> bytes:
            given.append(token(len(given), life=2))
            if len(given) == 3:
                third.set()
            return given[-1]

        with Router(acknowledge, secret=self.secret) as router:
            with Producer(
                router.endpoint, topic="t", server_key=self.public, token=fetch
            ) as producer:
                producer.send(b"v").result(DEADLINE)
                self.assertTrue(third.wait(DEADLINE))
                producer.send(b"v").result(DEADLINE)
            # What renews is another connection, which says nothing.
            self.assertEqual((router.tokens, len(router.peers)), ([given[0].decode()], 1))

    def test_each_connection_shows_the_newest_token(self) -> None:
        given: list[bytes] = []

        def fetch() -> bytes:
            given.append(token(len(given)))
            return given[-1]

        first = Router(acknowledge, secret=self.secret)
        producer = Producer(first.endpoint, topic="t", server_key=self.public, token=fetch)
        producer.send(b"v").result(DEADLINE)
        first.close()
        with Router(acknowledge, first.port, self.secret) as second:
            producer.send(b"v").result(DEADLINE)
            self.assertIn(second.tokens[0].encode(), given[1:])
            producer.close()

    def test_what_is_refused_is_not_shown_again(self) -> None:
        count = 0

        def another() -> bytes:
            nonlocal count
            count += 1
            return token(count)

        cases: list[tuple[Callable[[], bytes] | None, str]] = [
            (None, "key or the token"),
            (lambda: b"e30.e30.x", "there is no other"),
            (another, "key or the token"),
        ]
        with tempfile.TemporaryDirectory() as nobody:
            with Router(acknowledge, secret=self.secret, known=nobody) as router:
                for fetch, told in cases:
                    producer = Producer(
                        router.endpoint, topic="t", server_key=self.public, token=fetch
                    )
                    with self.assertRaisesRegex(Refused, told):
                        producer.send(b"v").result(DEADLINE)
                    producer.close()
        self.assertEqual((count, router.messages), (3, []))

    def test_a_function_that_fails(self) -> None:
        def fetch() -> bytes:
            raise OSError("SECRET")

        with Router(acknowledge, secret=self.secret) as router:
            with self.assertLogs("zafka") as logs:
                with Producer(
                    router.endpoint, topic="t", timeout=0.2, server_key=self.public, token=fetch
                ) as producer:
                    with self.assertRaisesRegex(Unanswered, "raised OSError") as raised:
                        producer.send(b"v").result(DEADLINE)
        self.assertIsInstance(raised.exception.__cause__, OSError)
        self.assertNotIn("SECRET", str(logs.output) + str(raised.exception))

    def test_a_function_that_hangs_keeps_nobody(self) -> None:
        hangs = threading.Event()

        def fetch() -> bytes:
            hangs.wait()
            return b"late"

        producer = Producer("tcp://127.0.0.1:1", topic="t", server_key=self.public, token=fetch)
        future = producer.send(b"v")
        producer.close(timeout=0)
        with self.assertRaises(Unanswered):
            future.result(0)
        hangs.set()


class AsyncTest(unittest.IsolatedAsyncioTestCase):
    async def test_a_coroutine_gives_the_token(self) -> None:
        public, secret = zmq.curve_keypair()
        shown = token()

        async def fetch() -> bytes:
            await asyncio.sleep(0)
            return shown

        for source in (fetch, lambda: shown):
            with Router(acknowledge, secret=secret) as router:
                async with AsyncProducer(
                    router.endpoint, topic="t", server_key=public, token=source
                ) as producer:
                    await producer.send_and_wait(b"v")
            self.assertEqual(router.tokens, [shown.decode()])


if __name__ == "__main__":
    unittest.main()
