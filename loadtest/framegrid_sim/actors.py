"""Who is in the street: each actor's way, repeated every period, and the seed of his looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.camera import Camera, Street
from framegrid_sim.settings import SceneSettings
from framegrid_sim.traffic import STEP_S, Driver, TrafficLight, drive_lane

FloatArray = NDArray[np.float64]

# Length, width, height in metres, mean; each vehicle differs a little.
VEHICLE_SIZES_M: dict[str, tuple[float, float, float]] = {
    "car": (4.3, 1.78, 1.47),
    "van": (5.5, 2.0, 2.35),
    "bus": (10.8, 2.5, 3.05),
    "bicycle": (1.75, 0.5, 1.75),
}
PERSON_REACH_M = 0.8  # half a person's extent along the street, umbrella included


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
        """(age, pass in which it started) of each copy that is on its way at this time of the endless loop."""
        start_pass = int((time_s - self.start_s) // period_s)
        age = time_s - self.start_s - start_pass * period_s
        while age <= self.duration_s:
            yield age, start_pass
            age += period_s
            start_pass -= 1

    def place(self, age_s: float) -> tuple[float, float, float]:
        """x, z, and the distance gone, in metres."""
        k = age_s / STEP_S
        i = min(int(k), len(self.xs_m) - 2)
        part = k - i
        x = self.xs_m[i] + part * (self.xs_m[i + 1] - self.xs_m[i])
        z = self.zs_m[i] + part * (self.zs_m[i + 1] - self.zs_m[i])
        return float(x), float(z), abs(float(x - self.xs_m[0]))


def build_actors(
    settings: SceneSettings, camera: Camera, street: Street, light: TrafficLight, rng: np.random.Generator
) -> list[Actor]:
    """Everybody of one pass, by the random stream."""
    actors: list[Actor] = []
    _add_walkers(actors, settings, camera, street, rng)
    _add_vehicles(actors, settings, camera, street, light, rng)
    return actors


def _add_walkers(
    actors: list[Actor], settings: SceneSettings, camera: Camera, street: Street, rng: np.random.Generator
) -> None:
    wanted = round(settings.persons_per_minute * settings.period_s / 60)
    while wanted > 0:
        grouped = rng.random() < settings.group_share / 2
        size = min(wanted, int(rng.integers(2, 5)) if grouped else 1)
        wanted -= size
        _add_group(actors, size, settings, camera, street, rng)


def _add_group(
    actors: list[Actor],
    size: int,
    settings: SceneSettings,
    camera: Camera,
    street: Street,
    rng: np.random.Generator,
) -> None:
    """One to four persons who walk, and stop, together."""
    pavement = street.near_pavement if rng.random() < 0.68 else street.far_pavement
    direction = 1 if rng.random() < 0.5 else -1
    low, high = pavement[0] + 0.35, pavement[1] - 0.45
    # Each direction keeps to its half most of the time; some cut through the oncoming.
    middle = (low + high) / 2 + (0.22 if rng.random() < 0.8 else -0.1) * (high - low) * direction
    speed = rng.uniform(0.95, 1.65)
    start = rng.uniform(0, settings.period_s)
    pause_x = _pause_place(camera, street, middle, rng) if rng.random() < settings.pauses else None
    pause_s = rng.uniform(3, 9)
    behind_m = 0.0
    for k in range(size):
        # Side by side but staggered, as friends walk: who were hidden all the way could be counted by nobody.
        side = (k % 2 - 0.5 * (size > 1)) * rng.uniform(0.5, 0.75) + rng.normal(0, 0.08)
        z = float(np.clip(middle + side, low, high))
        height = rng.normal(1.72, 0.09) if rng.random() < 0.88 else rng.uniform(1.1, 1.45)
        xs, zs = _walk(camera, z, direction, speed, pause_x, pause_s, rng)
        actors.append(
            Actor(
                index=len(actors),
                cls="person",
                start_s=(start + behind_m / speed) % settings.period_s,
                xs_m=xs,
                zs_m=np.clip(zs, low, high),
                direction=direction,
                size_m=(0.5, 0.5, float(np.clip(height, 1.05, 1.98))),
                look_seed=int(rng.integers(2**31)),
            )
        )
        behind_m += rng.uniform(0.5, 0.8)
        if pause_x is not None:
            pause_x -= direction * rng.uniform(0.5, 0.8)


def _pause_place(camera: Camera, street: Street, z: float, rng: np.random.Generator) -> float:
    """Somewhere in the picture that is not on a line: nobody could say whether he who stands on it has crossed."""
    left, right = camera.x_range(z, 0.0)
    places = rng.uniform(left, right, 20)
    apart = np.min([np.abs(places - x) for x in street.line_x.values()], axis=0)
    clear = places[apart > 2.5]
    return float(clear[0]) if len(clear) else left


def _walk(
    camera: Camera,
    z: float,
    direction: int,
    speed_mps: float,
    pause_x: float | None,
    pause_s: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    left, right = _ends(camera, z, PERSON_REACH_M, 0.3, 2.6)
    steps = int((right - left) / speed_mps / STEP_S) + 2
    gone = np.arange(steps) * STEP_S * speed_mps
    if pause_x is not None:
        k = int(
            np.clip(
                np.searchsorted(gone, (pause_x - left) if direction > 0 else (right - pause_x)), 1, steps - 2
            )
        )
        # Slow down and start within half a second each, standing between.
        ramp = np.cumsum(np.linspace(1, 0, 6)) * STEP_S * speed_mps
        stand = np.full(round(pause_s / STEP_S), gone[k] + ramp[-1])
        start = stand[-1] + np.cumsum(np.linspace(0, 1, 6)) * STEP_S * speed_mps
        gone = np.concatenate([gone[: k + 1], gone[k] + ramp, stand, start, start[-1] + gone[1 : steps - k]])
    xs = left + gone if direction > 0 else right - gone
    zs = z + rng.uniform(0, 0.18) * np.sin(xs * rng.uniform(0.15, 0.4) + rng.uniform(0, 6.28))
    return xs, zs


def _add_vehicles(
    actors: list[Actor],
    settings: SceneSettings,
    camera: Camera,
    street: Street,
    light: TrafficLight,
    rng: np.random.Generator,
) -> None:
    wanted = round(settings.vehicles_per_minute * settings.period_s / 60)
    bicycles = int(rng.binomial(wanted, settings.bicycle_share))
    lanes = [(z, d, False) for z, d in street.lanes] + [(z, d, True) for z, d in street.bicycle_lanes]
    rides: list[list[tuple[float, str]]] = [[] for _ in lanes]
    for k in range(wanted):
        choices = [i for i, lane in enumerate(lanes) if lane[2] == (k < bicycles)]
        cls = "bicycle" if k < bicycles else str(rng.choice(["car", "van", "bus"], p=[0.62, 0.22, 0.16]))
        rides[int(rng.choice(choices))].append((float(rng.uniform(0, settings.period_s)), cls))
    for (z, direction, bicycle), lane_rides in zip(lanes, rides, strict=True):
        lane_rides.sort()
        sizes = [tuple(m * rng.uniform(0.94, 1.06) for m in VEHICLE_SIZES_M[cls]) for _, cls in lane_rides]
        drivers = [
            Driver(at, size[0], float(rng.uniform(3.6, 5.6) if bicycle else rng.uniform(6.5, 9.5)))
            for (at, _), size in zip(lane_rides, sizes, strict=True)
        ]
        widest = 0.4 if bicycle else 1.35
        left, right = _ends(camera, z, 6.0, widest, 3.3)
        enter, leave = (left, right) if direction > 0 else (-right, -left)
        # Vehicles come from further away than the picture's edge, so that a queue may reach out of it.
        drives = drive_lane(
            drivers, settings.period_s, enter - 30, leave, street.stop_x[direction] * direction, light
        )
        for (_, cls), size, drive in zip(lane_rides, sizes, drives, strict=True):
            xs = drive.positions_m * direction
            reach = size[0] / 2 + 0.8
            edge_left, edge_right = _ends(camera, z, reach, widest, 3.3)
            inside = np.flatnonzero((xs >= edge_left) & (xs <= edge_right))
            first, last = max(int(inside[0]) - 1, 0), int(inside[-1]) + 2
            xs = xs[first:last]
            actors.append(
                Actor(
                    index=len(actors),
                    cls=cls,
                    start_s=(drive.start_s + first * STEP_S) % settings.period_s,
                    xs_m=xs,
                    zs_m=np.full(len(xs), z + rng.normal(0, 0.06)),
                    direction=direction,
                    size_m=(float(size[0]), float(size[1]), float(size[2])),
                    look_seed=int(rng.integers(2**31)),
                )
            )


def _ends(camera: Camera, z: float, reach_m: float, half_width_m: float, top_m: float) -> tuple[float, float]:
    """x between which something of this reach can be in the picture."""
    ranges = [camera.x_range(z + dz, top_m) for dz in (-half_width_m, half_width_m)]
    return min(r[0] for r in ranges) - reach_m, max(r[1] for r in ranges) + reach_m
