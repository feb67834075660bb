"""Tokens: asked for on a thread of their own, since a provider may take its time."""

from __future__ import annotations

import base64
import json
import math
import threading
from typing import Callable, Optional, Union

Token = Union[str, bytes]

_LONGEST = 8192
"""The longest token that a relay takes, in bytes."""


class TokenFailed:
    """A token could not be had."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Tokens:
    """Calls `fetch` when it is asked to, and wakes the one who asked."""

    def __init__(self, fetch: Callable[[], Token], wake: Callable[[], None]) -> None:
        self._fetch = fetch
        self._wake = wake
        self._lock = threading.Lock()
        self._is_asking = False
        self._outcome: Optional[Union[bytes, TokenFailed]] = None

    def ask(self) -> None:
        """Begin to fetch a token, unless that is under way.

        It may take as long as `fetch` does: a message that waits for it has a deadline of its own.
        """
        with self._lock:
            if self._is_asking:
                return
            self._is_asking = True
        # A daemon: a program that ends does not wait for its provider.
        threading.Thread(target=self._run, name="zafka-token", daemon=True).start()

    def take(self) -> bytes | TokenFailed | None:
        """What came of asking, once it has."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
        return outcome

    def _run(self) -> None:
        outcome: bytes | TokenFailed
        try:
            outcome = checked(self._fetch())
        except Exception as error:  # It is the program's own, and may fail in any way.
            outcome = TokenFailed(error)
        with self._lock:
            self._outcome = outcome
            self._is_asking = False
        self._wake()


def check_source(token: object) -> None:
    """Raise ValueError unless it can be called."""
    if not callable(token):
        # It is not said what was found: that may be the token itself.
        raise ValueError("token: not callable; allowed: a function that returns a token")


def checked(token: object) -> bytes:
    """The bytes of a token; ValueError, which does not show it, if it is none."""
    if isinstance(token, str):
        token = token.encode("utf-8", "surrogatepass")
    if not isinstance(token, bytes):
        raise ValueError(f"token: found {type(token).__name__}; allowed: str or bytes")
    token = token.strip()
    if not token or len(token) > _LONGEST or not all(33 <= byte <= 126 for byte in token):
        found = f"{len(token)} bytes" if len(token) > _LONGEST or not token else "other characters"
        allowed = f"one word of ASCII, at most {_LONGEST} bytes"
        raise ValueError(f"token: found {found}; allowed: {allowed}")
    return token


def expires(token: bytes) -> float | None:
    """When a token ends by its own word, in s since the epoch; None if it does not tell.

    It is the relay that verifies: this is only to know when the next one is needed.
    """
    parts = token.split(b".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
        end = float(payload["exp"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return end if math.isfinite(end) else None
