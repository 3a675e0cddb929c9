"""Fakes that ingest's tests own: a clock that moves by hand, pictures, a sink that keeps rows."""

from collections.abc import Sequence

import numpy as np
import pytest
import simplejpeg
from framegrid_ingest.clock import Clock


class ManualClock(Clock):
    """Both clocks in one, moved by the test."""

    def __init__(self, unix_s: float = 1_800_000_000.0) -> None:
        self.now_s = unix_s
        self.running_s = 1000.0

    def unix_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.running_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.running_s += seconds


class ListSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[object] = []

    def put(self, rows: Sequence[object]) -> None:
        self.rows += rows

    def of(self, kind: type) -> list[object]:
        return [row for row in self.rows if isinstance(row, kind)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture(scope="session")
def make_clock() -> type[ManualClock]:
    """For tests that need a fresh one for each example."""
    return ManualClock


@pytest.fixture(scope="session")
def make_sink() -> type[ListSink]:
    """For tests that need a fresh one for each example."""
    return ListSink


@pytest.fixture(scope="session")
def small_jpeg() -> bytes:
    """320 x 240, a gradient."""
    y, x = np.mgrid[0:240, 0:320]
    pixels = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90, "BGR", "420"))
