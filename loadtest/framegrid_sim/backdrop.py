"""The street without anybody in it: every pixel's ray meets the ground, a house front or the sky.

Painted once per scene at twice the size and scaled down, so that edges are smooth; frames start from a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from framegrid_sim.camera import Camera, Street
from framegrid_sim.settings import SceneSettings
from framegrid_sim.shapes import Image

Float32 = NDArray[np.float32]

# Light that falls everywhere, as BGR factors of the daylight colours.
AMBIENT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "dusk": (0.60, 0.52, 0.55),
    "night": (0.30, 0.26, 0.24),
}
# What a street lamp adds right beneath it.
LAMP: dict[str, tuple[float, float, float]] = {
    "day": (0.0, 0.0, 0.0),
    "dusk": (0.12, 0.20, 0.24),
    "night": (0.30, 0.52, 0.62),
}
LAMP_REACH_M = 6.0

_WALLS = (
    (160, 178, 196), (128, 150, 190), (110, 120, 150), (190, 200, 208), (150, 160, 160), (120, 140, 170),
    (90, 104, 140), (176, 190, 200), (140, 132, 128),
)  # fmt: skip
_SHOPS = ((60, 50, 46), (50, 70, 120), (70, 90, 60), (120, 70, 40), (46, 46, 52), (90, 60, 80))


@dataclass(frozen=True)
class Lights:
    """Light on anything standing in the street, by its place."""

    ambient: NDArray[np.float64]  # (3,) BGR
    lamp: NDArray[np.float64]  # (3,) BGR
    lamps_xz: NDArray[np.float64]  # (n, 2)

    def at(self, x: float, z: float) -> NDArray[np.float64]:
        """(3,) BGR factors of daylight colours at this place of the ground."""
        distance2 = ((self.lamps_xz - (x, z)) ** 2).sum(axis=1)
        result: NDArray[np.float64] = self.ambient + self.lamp * float(
            (1 / (1 + distance2 / LAMP_REACH_M**2) ** 2).sum()
        )
        return result


def build_lights(settings: SceneSettings, street: Street, rng: np.random.Generator) -> Lights:
    spacing, start = rng.uniform(10, 15), rng.uniform(-5, 5)
    xs = start + np.arange(-6, 7) * spacing
    near, far = street.road[0] - 0.4, street.road[1] + 0.4
    places = np.array([[x, near] for x in xs] + [[x + spacing / 2, far] for x in xs])
    strength = 0.86 if settings.rain else 1.0
    return Lights(np.array(AMBIENT[settings.light]) * strength, np.array(LAMP[settings.light]), places)


def paint_backdrop(
    settings: SceneSettings, camera: Camera, street: Street, lights: Lights, rng: np.random.Generator
) -> Image:
    """The empty street, (height, width, 3) uint8 BGR."""
    w, h = settings.width * 2, settings.height * 2
    rays = camera.rays(w, h).astype(np.float32)
    down = rays[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(down < -1e-3, -camera.height_m / down, np.inf).astype(np.float32)
        t_wall = (street.wall_z / np.maximum(rays[..., 2], 1e-6)).astype(np.float32)
    on_ground = t < t_wall
    t_hit = np.where(on_ground, t, t_wall)
    x = rays[..., 0] * t_hit
    y = np.where(on_ground, 0, camera.height_m + rays[..., 1] * t_hit)
    z = rays[..., 2] * t_hit
    picture = np.where(
        on_ground[..., None], _ground(settings, street, x, z, rng), _fronts(settings, x, y, rng)
    ).astype(np.float32)
    grain = rng.normal(1, 0.035, (h, w, 1)).astype(np.float32)
    blotches = cv2.resize(rng.normal(1, 0.05, (h // 40 + 2, w // 40 + 2)).astype(np.float32), (w, h))[
        ..., None
    ]
    picture *= grain * blotches
    picture *= _light_map(lights, x, z, y)
    picture += _lit_windows(settings, x, y, on_ground, rng)
    small = cv2.resize(
        np.clip(picture, 0, 255), (settings.width, settings.height), interpolation=cv2.INTER_AREA
    )
    result: Image = small.astype(np.uint8)
    return result


def _light_map(lights: Lights, x: Float32, z: Float32, y: Float32) -> Float32:
    total = np.zeros(x.shape, np.float32)
    if lights.lamp.any():
        for lx, lz in lights.lamps_xz.astype(np.float32):
            distance2 = (x - lx) ** 2 + (z - lz) ** 2 + (0.35 * y) ** 2
            total += 1 / (1 + distance2 / LAMP_REACH_M**2) ** 2
    result: Float32 = (lights.ambient + lights.lamp * total[..., None]).astype(np.float32)
    return result


def _ground(
    settings: SceneSettings, street: Street, x: Float32, z: Float32, rng: np.random.Generator
) -> Float32:
    asphalt = rng.uniform(84, 118) * np.array([1.0, 0.99, 0.98])
    slabs = rng.uniform(140, 180) * np.array([0.97, 1.0, 1.02])
    lawn = rng.random() < 0.5
    plaza = (
        np.array([70, 118, 92.0]) * rng.uniform(0.8, 1.2)
        if lawn
        else rng.uniform(110, 150) * np.array([1, 1.0, 1.03])
    )
    if settings.rain:
        asphalt, slabs = asphalt * 0.72, slabs * 0.8
    out = np.empty((*x.shape, 3), np.float32)
    out[...] = plaza
    if lawn:
        out *= (1 + 0.1 * np.sin(x * 1.7 + np.sin(z * 2.3)) * np.sin(z * 3.1))[..., None]
    else:
        out[_joint(x, 1.2) | _joint(z, 1.2)] *= 0.86
    for low, high in (street.near_pavement, street.far_pavement):
        band = (z >= low) & (z < high)
        out[band] = slabs
        out[band & (_joint(x, 0.8) | _joint(z - low, 0.8))] *= 0.87
    out[z >= street.far_pavement[1]] = slabs * 0.9
    road = (z >= street.road[0]) & (z < street.road[1])
    out[road] = asphalt
    for kerb in street.road:
        out[np.abs(z - kerb) < 0.13] = (186, 190, 192)
    white = np.array([205, 210, 210.0]) * rng.uniform(0.85, 1.05)
    middle = (street.lanes[0][0] + street.lanes[-1][0]) / 2
    out[np.abs(z - middle) < 0.08] = white
    for (a, da), (b, db) in pairwise(street.lanes):
        if da == db:
            out[(np.abs(z - (a + b) / 2) < 0.07) & (x % 5.0 < 2.2)] = white * 0.95
    for edge, sign in ((street.bicycle_lanes[0][0], 1), (street.bicycle_lanes[1][0], -1)):
        out[(np.abs(z - edge - sign * 0.75) < 0.06) & (x % 1.6 < 0.9)] = white * 0.9
    if settings.stop_and_go:
        for direction, stop in street.stop_x.items():
            half = [lane for lane, d in street.lanes if d == direction]
            across = (z > min(half) - 1.5) & (z < max(half) + 1.5)
            out[across & (np.abs(x - stop - direction * 0.6) < 0.2)] = white
    shadow = np.exp(-np.maximum(street.wall_z - z, 0) / 1.2)[..., None]
    result: Float32 = out * (1 - 0.25 * shadow.astype(np.float32))
    return result


def _joint(value: Float32, every_m: float) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = value % every_m < 0.045
    return result


def _fronts(settings: SceneSettings, x: Float32, y: Float32, rng: np.random.Generator) -> Float32:
    """House fronts with shops, and the sky above them."""
    edges = np.cumsum(rng.uniform(7, 16, 24)) - 130
    count = len(edges) + 1
    house = np.searchsorted(edges, x)
    left = np.concatenate([[-140.0], edges])[house]
    walls = np.array(_WALLS)[rng.integers(0, len(_WALLS), count)] * rng.uniform(0.8, 1.15, (count, 1))
    shops = np.array(_SHOPS)[rng.integers(0, len(_SHOPS), count)] * rng.uniform(0.8, 1.4, (count, 1))
    floor_m = rng.uniform(2.9, 3.5, count)[house]
    wide_m = rng.uniform(1.7, 2.9, count)[house]
    tall = rng.uniform(7, 19, count)[house]
    out = walls[house].astype(np.float32)
    u, v = ((x - left) % wide_m) / wide_m, (y % floor_m) / floor_m
    upper = y >= floor_m
    out[upper & (v < 0.04)] *= 0.82
    frame = upper & (np.abs(u - 0.5) < 0.27) & (np.abs(v - 0.54) < 0.31)
    out[frame] = np.clip(out[frame] * 1.25, 0, 240)
    pane = upper & (np.abs(u - 0.5) < 0.235) & (np.abs(v - 0.54) < 0.275) & (np.abs(u - 0.5) > 0.012)
    out[pane] = (112, 96, 84)
    ground = ~upper
    out[ground] = shops[house[ground]]
    glass = ground & (np.abs(u - 0.5) < 0.42) & (v > 0.14) & (v < 0.72)
    out[glass] = (126, 116, 104)
    sign = ground & (v > 0.78) & (v < 0.95)
    out[sign] = np.clip(shops[house[sign]] * 1.7 + 40, 0, 230)
    door = ground & (((x - left) / wide_m).astype(int) % 4 == 2) & (np.abs(u - 0.5) < 0.22) & (v < 0.7)
    out[door] = shops[house[door]] * 0.6
    out[y < 0.25] *= 0.75
    sky = y > tall
    top, low = {
        "day": ((235, 205, 170), (240, 232, 222)),
        "dusk": ((150, 110, 110), (170, 190, 250)),
        "night": ((60, 44, 40), (90, 74, 66)),
    }[settings.light]
    if settings.rain:
        top, low = (190, 184, 180), (205, 202, 200)
    share = np.clip((y[sky] - 8) / 30, 0, 1)[:, None]
    out[sky] = np.array(low) * (1 - share) + np.array(top) * share
    return out


def _lit_windows(
    settings: SceneSettings, x: Float32, y: Float32, on_ground: NDArray[np.bool_], rng: np.random.Generator
) -> Float32:
    """Warm light behind some panes once it is dark."""
    glow = np.zeros((*x.shape, 3), np.float32)
    if settings.light == "day":
        return glow
    # Cells of about a window, lit by a hash of their place; the fronts' own panes stay recognisable through
    # it.
    cells = np.floor(x / 2.3).astype(int) * 7919 + np.floor(y / 3.2).astype(int) * 104729
    lit = ((cells * 2654435761) % 97 < 24) & ~on_ground & (y < 7) & (x % 2.3 > 0.5) & (x % 2.3 < 1.8)
    lit &= (y % 3.2 > 0.7) & (y % 3.2 < 2.4)
    warm = np.array([70, 140, 180], np.float32) * (0.9 if settings.light == "night" else 0.45)
    glow[lit] = warm * float(rng.uniform(0.7, 1.0))
    return glow
