"""What stands in the street and hides people: lamp posts, trees, bins, planters, a bus shelter's pillars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from framegrid_sim.backdrop import Lights
from framegrid_sim.camera import Camera, Street
from framegrid_sim.settings import SceneSettings
from framegrid_sim.shapes import FloatArray, Shape, capsules, fixed

Colour = tuple[float, float, float]  # BGR 0..255


@dataclass(frozen=True)
class Furniture:
    z_m: float
    x_m: float
    shapes: list[Shape]


def build_furniture(
    settings: SceneSettings, camera: Camera, street: Street, lights: Lights, rng: np.random.Generator
) -> list[Furniture]:
    """The street's furniture in the picture, its shapes ready to be painted."""
    found: list[Furniture] = []
    for x, z in lights.lamps_xz:
        if _in_view(camera, float(x), float(z), 6.0):
            found.append(_lamp_post(settings, camera, lights, float(x), float(z)))
    # Trees stand behind the far pavement; before the road only a few young ones, or nobody would be seen to
    # cross.
    places = (
        (street.road[0] - 0.55, 0.4, (0.15, 0.5, 0.35)),
        (street.near_pavement[0] - 0.7, 0.5, (0.15, 0.5, 0.35)),
        (street.wall_z - 0.2, 0.35, (0.6, 0.2, 0.2)),
    )
    for z, chance, kinds in places:
        left, right = camera.x_range(z, 0.0)
        x = left + rng.uniform(0, 6)
        while x < right:
            if rng.random() < chance:
                make = (_tree, _bin, _planter)[int(rng.choice(3, p=kinds))]
                found.append(make(camera, lights, x, z, rng))
            x += rng.uniform(4, 9)
    return found


def _in_view(camera: Camera, x: float, z: float, reach: float) -> bool:
    left, right = camera.x_range(z, 0.0)
    return left - reach < x < right + reach


def _tone(colour: Colour, light: FloatArray, factor: float = 1.0) -> Colour:
    b, g, r = (min(float(c * k * factor), 255.0) for c, k in zip(colour, light, strict=True))
    return b, g, r


def _post(camera: Camera, a: FloatArray, b: FloatArray, radius_m: float, colour: Colour) -> Shape:
    ends = camera.project(np.stack([a, b]))
    radius = radius_m * camera.scale(np.stack([a, b]))
    return Shape(fixed(capsules(ends[:1], ends[1:], radius[:1], radius[1:])[0]), colour)


def _box(
    camera: Camera, lights: Lights, at: tuple[float, float], size: tuple[float, float], colour: Colour
) -> list[Shape]:
    """An upright box on the ground at x, z; its half width and its height in metres."""
    (x, z), (half, top) = at, size
    light = lights.at(x, z)
    left, right, near, far = x - half, x + half, z - half, z + half
    front = [(left, 0, near), (right, 0, near), (right, top, near), (left, top, near)]
    lid = [(left, top, near), (right, top, near), (right, top, far), (left, top, far)]
    flank = left if camera.project(np.array([x, 0, z]))[0] > camera.width / 2 else right
    side = [(flank, 0, near), (flank, 0, far), (flank, top, far), (flank, top, near)]
    tones = (_tone(colour, light, 0.8), _tone(colour, light, 1.15), _tone(colour, light))
    return [
        Shape(fixed(camera.project(np.array(face, float))), tone)
        for face, tone in zip((side, lid, front), tones, strict=True)
    ]


def _lamp_post(settings: SceneSettings, camera: Camera, lights: Lights, x: float, z: float) -> Furniture:
    light = lights.at(x, z)
    steel = _tone((92, 92, 88), light)
    foot, top = np.array([x, 0.0, z]), np.array([x, 6.2, z])
    arm = top + np.array([0.9, 0.15, 0.0])
    shapes = [_post(camera, foot, top, 0.075, steel), _post(camera, top, arm, 0.05, steel)]
    bulb = (190.0, 240.0, 255.0) if settings.light != "day" else _tone((200, 200, 200), light)
    shapes.append(_post(camera, arm, arm + np.array([0.35, 0.0, 0.0]), 0.09, bulb))
    return Furniture(z, x, shapes)


def _tree(camera: Camera, lights: Lights, x: float, z: float, rng: np.random.Generator) -> Furniture:
    light = lights.at(x, z)
    age = rng.uniform(0.35, 0.5) if z < 18.5 else 1.0  # young before the road, old behind it
    trunk = _tone((50, 66, 84), light)
    height = 2.1 + 1.2 * age
    shapes = [_post(camera, np.array([x, 0, z]), np.array([x, height, z]), 0.05 + 0.08 * age, trunk)]
    green = (rng.uniform(40, 70), rng.uniform(90, 130), rng.uniform(60, 100))
    for _ in range(16):
        spread = rng.normal(0, (0.7 * age, 0.5 * age))
        centre = np.array([x + spread[0], height + 0.9 * age + spread[1], z])
        tone = _tone(green, light, rng.uniform(0.7, 1.25))
        shapes.append(_post(camera, centre, centre, rng.uniform(0.4, 0.75) * age, tone))
    return Furniture(z, x, shapes)


def _bin(camera: Camera, lights: Lights, x: float, z: float, rng: np.random.Generator) -> Furniture:
    colour = ((60, 90, 50), (70, 70, 74), (110, 70, 40))[int(rng.integers(3))]
    return Furniture(z, x, _box(camera, lights, (x, z), (0.28, 0.95), colour))


def _planter(camera: Camera, lights: Lights, x: float, z: float, rng: np.random.Generator) -> Furniture:
    light = lights.at(x, z)
    shapes = _box(camera, lights, (x, z), (0.42, 0.55), (120, 130, 140))
    for _ in range(9):
        centre = np.array([x + rng.uniform(-0.4, 0.4), 0.65 + rng.uniform(0, 0.3), z])
        tone = _tone((50, 120, 70), light, rng.uniform(0.7, 1.3))
        shapes.append(_post(camera, centre, centre, rng.uniform(0.14, 0.24), tone))
    return Furniture(z, x, shapes)
