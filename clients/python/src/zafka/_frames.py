"""The frames of a message, by the templates that the route has (docs/ingest.md)."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from typing import Mapping, Sequence

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FIELDS = "{id} {topic} {key} {value} {header.NAME} {timestamp} {_}"
_TIMESTAMP = {"dec": "", "u64le": "<Q", "u64be": ">Q"}


@dataclass(frozen=True)
class _Frame:
    before: bytes
    field: str | None
    after: bytes
    format: str = ""


class Layout:
    """What each frame of a message is."""

    def __init__(self, templates: Sequence[str]) -> None:
        if isinstance(templates, str):
            raise ValueError("frames: found a text; allowed: a list of templates")
        self._frames = [_parse(index, text) for index, text in enumerate(templates, 1)]
        fields = [frame.field for frame in self._frames if frame.field is not None]
        for field in set(fields) - {"_"}:
            if fields.count(field) > 1:
                raise ValueError(f"frames: {{{field}}} is there twice")
        if "value" not in fields:
            raise ValueError("frames: {value} is missing")
        if "id" in fields and self._frames[0] != _Frame(b"", "id", b""):
            raise ValueError("frames: {id} is the first frame, alone")
        self.has_id = "id" in fields
        self.has_topic = "topic" in fields
        self.has_key = "key" in fields
        self.headers = frozenset(field[7:] for field in fields if field.startswith("header."))

    def check(self, topic: str | None, key: bytes | None, headers: Mapping[str, bytes]) -> None:
        """Raise ValueError for what no frame carries, and for what a frame lacks."""
        if self.has_topic and topic is None:
            raise ValueError("topic: missing; the frames carry a topic")
        if not self.has_topic and topic is not None:
            raise ValueError("topic: no frame carries it")
        if key is not None and not self.has_key:
            raise ValueError("key: no frame carries it")
        for name in set(headers) - self.headers:
            raise ValueError(f"header {name!r}: no frame carries it")
        for name in self.headers - set(headers):
            raise ValueError(f"header {name!r}: missing; a frame carries it")

    def write(
        self,
        id: bytes,
        topic: str | None,
        key: bytes | None,
        value: bytes,
        headers: Mapping[str, bytes],
        timestamp: int | None,
    ) -> list[bytes]:
        """The frames of a message that says this."""
        self.check(topic, key, headers)
        fields = {"id": id, "topic": (topic or "").encode(), "key": key or b"", "value": value}
        return [self._one(frame, fields, headers, timestamp) for frame in self._frames]

    @staticmethod
    def _one(
        frame: _Frame,
        fields: Mapping[str, bytes],
        headers: Mapping[str, bytes],
        timestamp: int | None,
    ) -> bytes:
        if frame.field is None or frame.field == "_":
            body = b""
        elif frame.field == "timestamp":
            ms = time.time_ns() // 1_000_000 if timestamp is None else timestamp
            body = struct.pack(frame.format, ms) if frame.format else b"%d" % ms
        elif frame.field.startswith("header."):
            body = headers[frame.field[7:]]
        else:
            body = fields[frame.field]
        return frame.before + body + frame.after if frame.before or frame.after else body


def _parse(index: int, text: str) -> _Frame:
    texts: list[str] = [""]
    fields: list[str] = []
    at = 0
    for token in _TOKEN.finditer(text):
        texts[-1] += text[at : token.start()]
        at = token.end()
        if token.group() in ("{{", "}}"):
            texts[-1] += token.group()[0]
        elif token.group(1) is None:
            raise ValueError(f"frames: frame {index}, character {token.start() + 1}: a lone brace")
        else:
            fields.append(token.group(1))
            texts.append("")
    texts[-1] += text[at:]
    if len(fields) > 1:
        raise ValueError(f"frames: frame {index}: {len(fields)} fields; allowed: one")
    if not fields:
        return _Frame(texts[0].encode(), None, b"")
    name, colon, format = fields[0].partition(":")
    if name == "timestamp" and (not colon or format in _TIMESTAMP):
        packed = _TIMESTAMP[format or "dec"]
        return _Frame(texts[0].encode(), name, texts[1].encode(), packed)
    is_header = name.startswith("header.") and len(name) > 7
    if colon or not (is_header or name in ("id", "topic", "key", "value", "_")):
        raise ValueError(f"frames: frame {index}: found {{{fields[0]}}}; allowed: {_FIELDS}")
    return _Frame(texts[0].encode(), name, texts[1].encode())
