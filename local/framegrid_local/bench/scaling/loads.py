"""What cameras do in each scenario: when there are how many, and how long a frame takes an engine."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

# Of each camera. A replica takes 25 frames a second at 40 ms: five cameras fill it.
FPS = 5.0
SERVICE_S = 0.040


@dataclass(frozen=True, slots=True)
class Scenario:
    """`cameras` and `service` are steps: (from second, value)."""

    name: str
    title: str
    length_s: float
    cameras: tuple[tuple[float, int], ...]
    service: tuple[tuple[float, float], ...] = ((0.0, SERVICE_S),)


def _burst() -> Iterator[tuple[float, int]]:
    yield 0.0, 6
    for start_s in range(60, 1200, 120):
        yield float(start_s), 24
        yield float(start_s + 20), 6


def _day() -> Iterator[tuple[float, int]]:
    """A day in an hour: a gate on motion lets few frames of the night pass; two rush hours, and chance."""
    chance = random.Random(11)
    drift = 0.0
    for minute in range(0, 24 * 60, 5):
        hour = minute / 60
        rush = math.exp(-(((hour - 8) / 1.3) ** 2)) + 0.9 * math.exp(-(((hour - 17.5) / 1.8) ** 2))
        daylight = 1 / (1 + math.exp(-(hour - 6) * 2)) / (1 + math.exp((hour - 21) * 2))
        drift = 0.8 * drift + chance.gauss(0, 1.2)
        yield minute * 60 / 24, max(1, round(2 + 12 * daylight + 26 * rush + drift))


def _flapping() -> Iterator[tuple[float, int]]:
    """To and fro across the line between two numbers of replicas."""
    for index in range(24):
        yield 50.0 * index, 11 if index % 2 else 10


SCENARIOS = (
    Scenario("step", "load x4, and back", 1200, ((0, 6), (120, 24), (600, 6))),
    Scenario("step12", "load x12", 700, ((0, 4), (120, 48))),
    Scenario("burst", "x4 for 20 s, every 2 min", 1260, tuple(_burst())),
    Scenario("day", "a day in an hour", 3600, tuple(_day())),
    Scenario("added", "a camera more every 20 s", 800, tuple((20.0 * n, 2 + n) for n in range(38))),
    Scenario("flapping", "10 and 11 cameras in turn", 1200, tuple(_flapping())),
    Scenario(
        "swap",
        "a model of 4x the time is swapped in",
        900,
        ((0, 10),),
        ((0, SERVICE_S), (200, 4 * SERVICE_S)),
    ),
)
