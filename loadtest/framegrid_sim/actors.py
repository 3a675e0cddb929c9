"""Who is in the street: each actor's way, repeated every period, and the seed of his looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.camera import Camera, Street
from framegrid_sim.settings import SceneSettings
from framegrid_sim.traffic import STEP_S, Driver, Lane, TrafficLight, drive_lane

FloatArray = NDArray[np.float64]

# Length, width, height in metres, mean; each vehicle differs a little.
VEHICLE_SIZES_M: dict[str, tuple[float, float, float]] = {
    "car": (4.3, 1.78, 1.47),
    "van": (5.5, 2.0, 2.35),
    "bus": (10.8, 2.5, 3.05),
    "bicycle": (1.75, 0.5, 1.75),
}
_MOTOR_CLASSES, _MOTOR_SHARES = ("car", "van", "bus"), (0.62, 0.22, 0.16)
PERSON_REACH_M = 0.8  # half a person's extent along the street, umbrella included


class Pose(NamedTuple):
    """Where an actor stands at a moment: the middle of his foot print; how far he has gone moves his legs."""

    x_m: float
    z_m: float
    gone_m: float
    direction: int  # +1 to the right, -1 to the left


@dataclass(frozen=True)
class Actor:
    """One object on its way through the street, again every period.

    xs_m[k], zs_m[k]: where its middle stands k * STEP_S after start_s; 0 <= start_s < period.
    """

    index: int
    cls: str
    start_s: float
    xs_m: FloatArray
    zs_m: FloatArray
    direction: int  # +1 to the right, -1 to the left
    size_m: tuple[float, float, float]  # length, width, height
    look_seed: int

    @property
    def duration_s(self) -> float:
        return (len(self.xs_m) - 1) * STEP_S

    def ages(self, time_s: float, period_s: float) -> Iterator[tuple[float, int]]:
        """(age, pass in which it started) of each copy that is on its way at this time of the endless
        loop."""
        start_pass = int((time_s - self.start_s) // period_s)
        age = time_s - self.start_s - start_pass * period_s
        while age <= self.duration_s:
            yield age, start_pass
            age += period_s
            start_pass -= 1

    def pose(self, age_s: float) -> Pose:
        k = age_s / STEP_S
        i = min(int(k), len(self.xs_m) - 2)
        part = k - i
        x = self.xs_m[i] + part * (self.xs_m[i + 1] - self.xs_m[i])
        z = self.zs_m[i] + part * (self.zs_m[i + 1] - self.zs_m[i])
        return Pose(float(x), float(z), abs(float(x - self.xs_m[0])), self.direction)


def build_actors(
    settings: SceneSettings, camera: Camera, street: Street, light: TrafficLight, rng: np.random.Generator
) -> list[Actor]:
    """Everybody of one pass, by the random stream."""
    casting = _Casting(settings, camera, street, light, rng)
    casting.add_walkers()
    casting.add_vehicles()
    return casting.actors


@dataclass
class _Casting:
    """Draws the actors of a scene from its random stream, in a fixed order."""

    settings: SceneSettings
    camera: Camera
    street: Street
    light: TrafficLight
    rng: np.random.Generator
    actors: list[Actor] = field(default_factory=list)

    def add_walkers(self) -> None:
        wanted = round(self.settings.persons_per_minute * self.settings.period_s / 60)
        while wanted > 0:
            grouped = self.rng.random() < self.settings.group_share / 2
            size = min(wanted, int(self.rng.integers(2, 5)) if grouped else 1)
            wanted -= size
            self._add_group(size)

    def add_vehicles(self) -> None:
        lanes = [(z, d, False) for z, d in self.street.lanes]
        lanes += [(z, d, True) for z, d in self.street.bicycle_lanes]
        wanted = round(self.settings.vehicles_per_minute * self.settings.period_s / 60)
        bicycles = int(self.rng.binomial(wanted, self.settings.bicycle_share))
        rides: list[list[tuple[float, str]]] = [[] for _ in lanes]
        for k in range(wanted):
            choices = [i for i, lane in enumerate(lanes) if lane[2] == (k < bicycles)]
            cls = "bicycle" if k < bicycles else str(self.rng.choice(_MOTOR_CLASSES, p=_MOTOR_SHARES))
            ride = rides[int(self.rng.choice(choices))]
            ride.append((float(self.rng.uniform(0, self.settings.period_s)), cls))
        for (z, direction, bicycle), lane_rides in zip(lanes, rides, strict=True):
            self._add_lane(z, direction, bicycle, sorted(lane_rides))

    def _add_group(self, size: int) -> None:
        """One to four persons who walk, and stop, together."""
        rng, settings = self.rng, self.settings
        pavement = self.street.near_pavement if rng.random() < 0.68 else self.street.far_pavement
        direction = 1 if rng.random() < 0.5 else -1
        low, high = pavement[0] + 0.35, pavement[1] - 0.45
        # Each direction keeps to its half most of the time; some cut through the oncoming.
        middle = (low + high) / 2 + (0.22 if rng.random() < 0.8 else -0.1) * (high - low) * direction
        speed = rng.uniform(0.95, 1.65)
        start = rng.uniform(0, settings.period_s)
        pause_x = self._pause_place(middle) if rng.random() < settings.pauses else None
        pause_s = rng.uniform(3, 9)
        behind_m = 0.0
        for k in range(size):
            # Side by side but staggered, as friends walk: nobody could count one who is hidden all the way.
            side = (k % 2 - 0.5 * (size > 1)) * rng.uniform(0.5, 0.75) + rng.normal(0, 0.08)
            z = float(np.clip(middle + side, low, high))
            height = rng.normal(1.72, 0.09) if rng.random() < 0.88 else rng.uniform(1.2, 1.5)
            left, right = _ends(self.camera, z, PERSON_REACH_M, 0.3, 2.6)
            begin, end = (left, right) if direction > 0 else (right, left)
            gone = _walk(abs(end - begin), speed, None if pause_x is None else abs(pause_x - begin), pause_s)
            xs = begin + direction * gone
            zs = z + rng.uniform(0, 0.18) * np.sin(xs * rng.uniform(0.15, 0.4) + rng.uniform(0, 6.28))
            self._add(
                cls="person",
                start_s=start + behind_m / speed,
                xs_m=xs,
                zs_m=np.clip(zs, low, high),
                direction=direction,
                size_m=(0.5, 0.5, float(np.clip(height, 1.2, 1.98))),
            )
            behind_m += rng.uniform(0.5, 0.8)
            if pause_x is not None:
                pause_x -= direction * rng.uniform(0.5, 0.8)

    def _pause_place(self, z: float) -> float:
        """Somewhere in the picture that is not on a line: has he who stands on it crossed?"""
        left, right = self.camera.x_range(z, 0.0)
        places = self.rng.uniform(left, right, 20)
        apart = np.min([np.abs(places - x) for x in self.street.line_x.values()], axis=0)
        clear = places[apart > 2.5]
        return float(clear[0]) if len(clear) else left

    def _add_lane(self, z: float, direction: int, bicycle: bool, rides: list[tuple[float, str]]) -> None:
        rng = self.rng
        sizes = [tuple(float(m * rng.uniform(0.94, 1.06)) for m in VEHICLE_SIZES_M[cls]) for _, cls in rides]
        speeds = (3.6, 5.6) if bicycle else (6.5, 9.5)
        drivers = [
            Driver(at, size[0], float(rng.uniform(*speeds)))
            for (at, _), size in zip(rides, sizes, strict=True)
        ]
        half_width = 0.4 if bicycle else 1.35
        left, right = _ends(self.camera, z, 6.0, half_width, 3.3)
        enter, leave = (left, right) if direction > 0 else (-right, -left)
        # Vehicles come from further away than the picture's edge, so that a queue may reach out of it.
        lane = Lane(
            enter - 30, leave, self.street.stop_x[direction] * direction, self.settings.period_s, self.light
        )
        for (_, cls), size, drive in zip(rides, sizes, drive_lane(drivers, lane), strict=True):
            xs = drive.positions_m * direction
            edges = _ends(self.camera, z, size[0] / 2 + 0.8, half_width, 3.3)
            inside = np.flatnonzero((xs >= edges[0]) & (xs <= edges[1]))
            first, last = max(int(inside[0]) - 1, 0), int(inside[-1]) + 2
            self._add(
                cls=cls,
                start_s=drive.start_s + first * STEP_S,
                xs_m=xs[first:last],
                zs_m=np.full(len(xs[first:last]), z + rng.normal(0, 0.06)),
                direction=direction,
                size_m=(size[0], size[1], size[2]),
            )

    def _add(
        self,
        *,
        cls: str,
        start_s: float,
        xs_m: FloatArray,
        zs_m: FloatArray,
        direction: int,
        size_m: tuple[float, float, float],
    ) -> None:
        index, look_seed = len(self.actors), int(self.rng.integers(2**31))
        start_s %= self.settings.period_s
        self.actors.append(Actor(index, cls, start_s, xs_m, zs_m, direction, size_m, look_seed))


def _walk(length_m: float, speed_mps: float, pause_m: float | None, pause_s: float) -> FloatArray:
    """Metres gone after each step of STEP_S until `length_m`; with a pause, standing still there for a
    while."""
    steps = int(length_m / speed_mps / STEP_S) + 2
    gone = np.arange(steps, dtype=np.float64) * (STEP_S * speed_mps)
    if pause_m is None:
        return gone
    k = int(np.clip(np.searchsorted(gone, pause_m), 1, steps - 2))
    # Slow down and start within half a second each, standing between.
    ramp = np.cumsum(np.linspace(1, 0, 6)) * STEP_S * speed_mps
    stand = np.full(round(pause_s / STEP_S), gone[k] + ramp[-1])
    start = stand[-1] + np.cumsum(np.linspace(0, 1, 6)) * STEP_S * speed_mps
    parts = [gone[: k + 1], gone[k] + ramp, stand, start, start[-1] + gone[1 : steps - k]]
    return np.concatenate(parts).astype(np.float64)


def _ends(camera: Camera, z: float, reach_m: float, half_width_m: float, top_m: float) -> tuple[float, float]:
    """x between which something of this reach can be in the picture."""
    ranges = [camera.x_range(z + dz, top_m) for dz in (-half_width_m, half_width_m)]
    return min(r[0] for r in ranges) - reach_m, max(r[1] for r in ranges) + reach_m
