"""Vehicles that drive, queue at a red light and start again, periodic in the clip's length.

Newell's car-following model (Newell, "A simplified car-following theory", Transportation Research B 36,
2002): a vehicle goes at its own speed unless that brings it nearer to the one ahead than where that one was a
reaction time ago, less a gap. The red light is one more bound. Being made of minima, the model forgets its
past as soon as the queue is gone, so a few passes bring it to its periodic solution. The result is smoothed
in time, with one kernel for all, which gives gentle braking and keeps every gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STEP_S = 0.1
REACTION_S = 0.9
GAP_M = 1.6
SMOOTH_S = 2.6
PASSES = 3


@dataclass(frozen=True)
class TrafficLight:
    """Red for the first `red_s` of every `cycle_s`. cycle_s 0: there is no light."""

    cycle_s: float
    red_s: float

    def is_red(self, time_s: float) -> bool:
        return self.cycle_s > 0 and time_s % self.cycle_s < self.red_s


@dataclass(frozen=True)
class Drive:
    """One vehicle's way in its lane. positions_m[k] is its middle, in driving direction, k * STEP_S after
    start_s."""

    start_s: float
    positions_m: FloatArray


@dataclass(frozen=True)
class Driver:
    """What is known of a vehicle before it drives. Arrivals of a lane are sorted by `arrival_s`."""

    arrival_s: float
    length_m: float
    speed_mps: float


@dataclass(frozen=True)
class Lane:
    """A lane in its driving direction: where vehicles enter, leave, and wait with their front at the
    light."""

    enter_m: float
    leave_m: float
    stop_m: float
    period_s: float
    light: TrafficLight


def light_for(period_s: float, stop_and_go: bool) -> TrafficLight:
    """A light whose cycle divides the period, of about 40 s."""
    if not stop_and_go:
        return TrafficLight(0.0, 0.0)
    cycle_s = period_s / max(1, round(period_s / 40.0))
    return TrafficLight(cycle_s, cycle_s * 0.4)


def drive_lane(drivers: list[Driver], lane: Lane) -> list[Drive]:
    """Drive a lane's vehicles, one after the other, from where they enter to where they leave.

    Returns one Drive for each driver, in order, of the last of a few passes: repeated every period, they are
    the lane's traffic for ever. start_s may be outside 0..period_s.
    """
    ways: list[tuple[int, FloatArray]] = []  # absolute first step, positions
    ahead: tuple[int, FloatArray, float] | None = None
    for k in range(PASSES):
        for driver in drivers:
            first, way = _drive(driver, k * lane.period_s, ahead, lane)
            ways.append((first, way))
            ahead = (first, way, driver.length_m)
    last = ways[len(ways) - len(drivers) :]
    return [
        Drive(first * STEP_S - (PASSES - 1) * lane.period_s, _smooth(way, driver.speed_mps))
        for (first, way), driver in zip(last, drivers, strict=True)
    ]


def _drive(
    driver: Driver, offset_s: float, ahead: tuple[int, FloatArray, float] | None, lane: Lane
) -> tuple[int, FloatArray]:
    step = round((driver.arrival_s + offset_s) / STEP_S)
    stop_m = lane.stop_m - driver.length_m / 2
    while _bound(driver, ahead, step) < lane.enter_m + 0.5:
        step += 1
    first, position = step, lane.enter_m
    way = [position]
    stride = driver.speed_mps * STEP_S
    while position < lane.leave_m:
        step += 1
        wanted = min(position + stride, _bound(driver, ahead, step))
        if position <= stop_m < wanted and lane.light.is_red(step * STEP_S):
            wanted = stop_m
        position = max(position, wanted)
        way.append(position)
    return first, np.array(way)


def _bound(driver: Driver, ahead: tuple[int, FloatArray, float] | None, step: int) -> float:
    """The furthest the vehicle may be at this step because of the one ahead."""
    if ahead is None:
        return float("inf")
    first, way, length_m = ahead
    index = step - round(REACTION_S / STEP_S) - first
    if index >= len(way):
        return float("inf")
    return float(way[max(index, 0)]) - (length_m + driver.length_m) / 2 - GAP_M


def _smooth(way: FloatArray, speed_mps: float) -> FloatArray:
    half = round(SMOOTH_S / STEP_S / 2)
    steps = np.arange(1, half + 1) * speed_mps * STEP_S
    padded = np.concatenate([way[0] - steps[::-1], way, way[-1] + steps])
    result: FloatArray = np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
    return result
