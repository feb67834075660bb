"""The keys of CURVE, and the token that is shown inside it (docs/security.md)."""

from __future__ import annotations

import os
import re
from typing import Callable, Tuple, Union

import zmq
import zmq.auth

from ._tokens import Token, check_source

ServerKey = Union[str, "os.PathLike[str]", bytes]
"""A file with a public key, or 40 bytes of Z85."""

Key = Union[str, "os.PathLike[str]", Tuple[bytes, bytes]]
"""A file with a secret key, or the public and the secret one, each 40 bytes of Z85."""

_Z85 = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_METADATA = 95
"""ZMQ_METADATA. Drafts name it, all releases since 4.2.4 have it."""


class Identity:
    """What a socket shows of who it is. It holds a secret key: it has no text of its own."""

    def __init__(
        self,
        server_key: ServerKey | None,
        key: Key | None,
        token: Callable[[], Token] | None,
    ) -> None:
        if server_key is None:
            given = "key" if key is not None else "token"
            raise ValueError(f"server_key: missing; {given} is shown to the relay with this key alone")
        if token is not None:
            check_source(token)
        if not zmq.has("curve"):
            raise ValueError("server_key: this libzmq is built without CURVE")
        self._server = _server(server_key)
        # A new key is let in by its token, or by a rule for any key.
        self._public, self._secret = zmq.curve_keypair() if key is None else _pair(key)
        self.token = token

    def configure(self, socket: zmq.Socket[bytes], token: bytes | None) -> None:
        """Set the options of a socket, before it connects."""
        socket.set(zmq.CURVE_SERVERKEY, self._server)
        socket.set(zmq.CURVE_PUBLICKEY, self._public)
        socket.set(zmq.CURVE_SECRETKEY, self._secret)
        if token is not None:
            socket.set(_METADATA, b"X-Token:" + token)


def identity(
    server_key: ServerKey | None, key: Key | None, token: Callable[[], Token] | None
) -> Identity | None:
    """The identity that these arguments make; None without any."""
    if server_key is None and key is None and token is None:
        return None
    return Identity(server_key, key, token)


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError for what CURVE cannot connect to."""
    if not re.fullmatch(r"tcp://[^\s/]+:\d{1,5}", endpoint):
        raise ValueError(f"endpoint {endpoint!r}: allowed with server_key: tcp://HOST:PORT")


def _server(given: ServerKey) -> bytes:
    if isinstance(given, bytes):
        return _z85("server_key", given)
    return _load("server_key", given)[0]


def _pair(given: Key) -> tuple[bytes, bytes]:
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"key: found {len(given)} parts; allowed: the public and the secret key")
        public, secret = (_z85("key", part) for part in given)
    else:
        public, loaded = _load("key", given)
        if loaded is None:
            path = os.fspath(given)
            raise ValueError(f"key: {path}: no secret key in it; keygen writes it to *.key_secret")
        secret = loaded
    if zmq.curve_public(secret) != public:
        raise ValueError("key: the public key is not that of the secret one")
    return public, secret


def _z85(name: str, given: bytes) -> bytes:
    # What was found is not shown: it may be a secret key.
    if not isinstance(given, bytes) or not _Z85.fullmatch(given):
        raise ValueError(f"{name}: not a key; allowed: 40 bytes of Z85, or the path of a file")
    return given


def _load(name: str, path: str | os.PathLike[str]) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {os.fspath(path)}: {error}") from None
    return _z85(name, public), None if secret is None else _z85(name, secret)
