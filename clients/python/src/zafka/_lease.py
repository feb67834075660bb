"""When a lease is to be renewed. No sockets, no threads, no clock.

A relay lets a key in until its token ends, or until the relay's own limit, and then closes its
connections. So a later token is shown before that.
"""

from __future__ import annotations

_PAUSE = 1.0
"""The shortest time between two attempts, in s."""


class Lease:
    """The lease of a key, as far as a client knows it. Times are those of one clock, in s."""

    def __init__(self, share: float = 0.8) -> None:
        self._share = share
        self._began = 0.0
        self._end: float | None = None
        self._longest: float | None = None
        self._renew_at: float | None = None

    def handle_shown(self, life: float | None, now: float) -> None:
        """A token was taken that lives for so long; None if that is not known."""
        known = [time for time in (life, self._longest) if time is not None]
        self._set(now, min(known, default=None))

    def handle_told(self, left: float, now: float) -> None:
        """The relay says how long the lease lasts from now on."""
        end = now + left
        if self._end is None or end < self._end:
            # That is its own limit, or its clock: so it will be with the next token.
            self._longest = max(0.0, end - self._began)
            self._set(self._began, self._longest)

    def handle_notice(self, now: float) -> None:
        """The relay says that the lease will soon be over."""
        if self._renew_at is not None:
            self._renew_at = min(self._renew_at, now)

    def handle_asked(self) -> None:
        """The next token is on its way."""
        self._renew_at = None

    def handle_failed(self, now: float) -> None:
        """There is no later token, or it was not taken: again, the later the more time there is."""
        left = 0.0 if self._end is None else self._end - now
        self._renew_at = now + max(_PAUSE, left * (1 - self._share))

    def handle_lost(self) -> None:
        """The connection is lost: the next one shows a token anyway."""
        self._end = self._renew_at = None

    def poll_timeout(self) -> float | None:
        """When `is_due` will be true."""
        return self._renew_at

    def is_due(self, now: float) -> bool:
        """Whether the next token is wanted."""
        return self._renew_at is not None and now >= self._renew_at

    def _set(self, began: float, life: float | None) -> None:
        self._began = began
        if life is None:
            self._end = self._renew_at = None
            return
        self._end = began + life
        self._renew_at = began + max(_PAUSE, life * self._share)
