"""JPEGs out of an endless stream of bytes: multipart/x-mixed-replace, or JPEGs one after the other.

Sans I/O: feed bytes, get whole pictures. Buffers at most MAX_PART_BYTES; raises FrameError beyond that. Bytes
are never searched twice, so a slow stream costs no more than a fast one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from framegrid_ingest.errors import FrameError

MAX_PART_BYTES = 16 * 1024 * 1024
_MAX_HEADER_BYTES = 16 * 1024
_SOI = b"\xff\xd8"
# In entropy-coded data every marker but RSTn and a stuffed zero ends it.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_HEADER = re.compile(rb"\s*([^:\r\n]+?)\s*:\s*([^\r\n]*?)\s*\r?\n")
_EOI, _SOS = 0xD9, 0xDA
_BARE_MARKERS = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


class Part(NamedTuple):
    """One picture and the header lines before it (names in small letters)."""

    headers: dict[str, str]
    data: bytes


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart content type, or b"" when it names none."""
    match = re.search(r"boundary\s*=\s*(\"[^\"]*\"|[^;\s]+)", content_type, re.IGNORECASE)
    # Many cameras write the two dashes into the parameter, which then belong to the line.
    return match.group(1).strip('"').removeprefix("--").encode() if match else b""


class MultipartSplitter:
    """Splits a multipart body. Uses Content-Length where a part has it, else looks for the next boundary."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"--" + boundary
        self._buffer = bytearray()
        self._searched = 0
        self._headers: dict[str, str] | None = None
        self._length = -1

    def feed(self, data: bytes) -> list[Part]:
        """All parts that `data` completes."""
        self._buffer += data
        parts = []
        while (part := self._next()) is not None:
            if part.data:
                parts.append(part)
        if len(self._buffer) > MAX_PART_BYTES:
            raise FrameError(f"expected pictures of at most {MAX_PART_BYTES} bytes, got more without an end")
        return parts

    def _next(self) -> Part | None:
        if self._headers is None and not self._read_headers():
            return None
        headers = self._headers or {}
        if self._length >= 0:
            if len(self._buffer) < self._length:
                return None
            data = bytes(memoryview(self._buffer)[: self._length])
            del self._buffer[: self._length]
        else:
            end = self._buffer.find(b"\n" + self._mark, self._searched)
            if end < 0:
                self._searched = max(0, len(self._buffer) - len(self._mark) - 1)
                return None
            data = bytes(memoryview(self._buffer)[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
        self._searched = 0
        self._headers = None
        return Part(headers, data)

    def _read_headers(self) -> bool:
        start = self._buffer.find(self._mark, self._searched)
        if start < 0:
            keep = max(0, len(self._buffer) - len(self._mark))
            del self._buffer[:keep]  # a preamble, or line breaks between parts
            self._searched = 0
            return False
        line_end = self._buffer.find(b"\n", start)
        end = self._end_of_headers(line_end + 1) if line_end >= 0 else -1
        if end < 0:
            if len(self._buffer) - start > _MAX_HEADER_BYTES:
                raise FrameError(f"expected part headers of at most {_MAX_HEADER_BYTES} bytes, got more")
            self._searched = start
            return False
        lines = bytes(self._buffer[line_end + 1 : end])
        self._headers = {
            match.group(1).decode("latin-1").lower(): match.group(2).decode("latin-1")
            for match in _HEADER.finditer(lines)
        }
        self._length = _length_of(self._headers)
        del self._buffer[:end]
        self._searched = 0
        return True

    def _end_of_headers(self, start: int) -> int:
        """Index after the empty line that ends the header lines, or -1."""
        at = start
        while (line_end := self._buffer.find(b"\n", at)) >= 0:
            if self._buffer[at:line_end].strip() == b"":
                return line_end + 1
            at = line_end + 1
        return -1


def _length_of(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "")
    if not text.isdigit():
        return -1
    length = int(text) if len(text) < 12 else MAX_PART_BYTES + 1
    if length > MAX_PART_BYTES:
        raise FrameError(f"expected pictures of at most {MAX_PART_BYTES} bytes, got one of {text[:20]}")
    return length


class JpegSplitter:
    """Splits JPEGs that follow each other with nothing, or anything, between them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # everything before is understood
        self._in_scan = False

    def feed(self, data: bytes) -> list[Part]:
        """All pictures that `data` completes."""
        self._buffer += data
        parts = []
        while (jpeg := self._next()) is not None:
            parts.append(Part({}, jpeg))
        if len(self._buffer) > MAX_PART_BYTES:
            raise FrameError(f"expected pictures of at most {MAX_PART_BYTES} bytes, got more without an end")
        return parts

    def _next(self) -> bytes | None:
        while self._at or self._find_start():
            match = _MARKER.search(self._buffer, self._at)
            if not self._in_scan and self._has_other_than_marker(match):
                self._restart(after=self._at)  # no marker where one must be: it was no JPEG
                continue
            if match is None:
                # The last byte may be the first half of a marker.
                self._at = max(2, len(self._buffer) - 1) if self._in_scan else self._at
                return None
            marker, end = match.group(1)[0], match.end()
            if marker == _EOI:
                jpeg = bytes(memoryview(self._buffer)[:end])
                self._restart(after=end)
                return jpeg
            if marker in _BARE_MARKERS:
                self._at = end
                continue
            size_known = len(self._buffer) >= end + 2
            segment_end = end + int.from_bytes(self._buffer[end : end + 2], "big") if size_known else 0
            if not size_known or len(self._buffer) < segment_end:
                self._at, self._in_scan = match.start(), False
                return None
            self._at, self._in_scan = segment_end, marker == _SOS
        return None

    def _has_other_than_marker(self, match: re.Match[bytes] | None) -> bool:
        if match is not None:
            return match.start() != self._at
        rest = self._buffer[self._at : self._at + 2]
        return bool(rest) and (rest[0] != 0xFF or rest[1:] == b"\0")

    def _find_start(self) -> bool:
        start = self._buffer.find(_SOI)
        if start < 0:
            del self._buffer[: max(0, len(self._buffer) - 1)]
            return False
        del self._buffer[:start]
        self._at, self._in_scan = 2, False
        return True

    def _restart(self, after: int) -> None:
        del self._buffer[:after]
        self._at, self._in_scan = 0, False
