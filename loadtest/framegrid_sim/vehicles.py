"""Cars, vans and buses: small meshes of flat faces, painted back to front.

Local axes in metres: u forward, v up, w to the left of the vehicle. A face is a convex polygon with a material.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.camera import Camera
from framegrid_sim.shapes import FloatArray, Shape, fixed

PAINTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "car": (
        (235, 235, 235), (190, 190, 188), (120, 120, 122), (44, 42, 42), (140, 70, 30), (36, 36, 170), (50, 90, 40),
        (180, 200, 215), (40, 170, 215), (120, 40, 90), (90, 60, 50), (200, 150, 90),
    ),
    "van": ((240, 240, 240), (225, 225, 222), (60, 60, 62), (30, 60, 190), (150, 90, 40), (40, 180, 230), (90, 130, 70)),
    "bus": ((40, 40, 190), (40, 150, 220), (150, 100, 30), (80, 140, 50), (230, 230, 230), (60, 190, 240)),
}  # fmt: skip

MATERIALS: dict[str, tuple[int, int, int]] = {
    "glass": (78, 66, 56),
    "glass_light": (122, 106, 92),
    "tyre": (26, 26, 26),
    "hub": (150, 150, 150),
    "trim": (46, 46, 48),
    "plate": (225, 230, 230),
    "under": (18, 18, 18),
    "white": (235, 235, 235),
}
_CIRCLE = np.linspace(0, 2 * np.pi, 15)[:-1]


@dataclass
class Mesh:
    """Faces in painting order. Lamps are faces too; where they are is kept for their glow at night."""

    points: list[FloatArray] = field(default_factory=list)  # each (n, 3)
    colours: list[FloatArray] = field(default_factory=list)  # each (3,) BGR
    normals: list[FloatArray] = field(default_factory=list)  # each (3,), zero: seen from both sides
    lamps: list[int] = field(default_factory=list)  # faces that shine when the lights are on

    def add(self, points: FloatArray, colour: FloatArray, normal: FloatArray, lamp: bool = False) -> None:
        if lamp:
            self.lamps.append(len(self.points))
        self.points.append(np.asarray(points, float))
        self.colours.append(np.asarray(colour, float) * _shade(normal))
        self.normals.append(normal)


@dataclass(frozen=True)
class VehicleLook:
    """A mesh packed for drawing."""

    vertices: FloatArray  # (V, 3)
    starts: list[tuple[int, int]]  # of each face's vertices
    centres: FloatArray  # (F, 3)
    normals: FloatArray  # (F, 3)
    colours: FloatArray  # (F, 3)
    shines: NDArray[np.bool_]  # (F,)


def build_vehicle(
    cls: str, look_seed: int, size_m: tuple[float, float, float], lights_on: bool
) -> VehicleLook:
    """A vehicle's mesh and paint, the same for the same seed."""
    rng = np.random.default_rng(look_seed)
    paints = PAINTS[cls]
    paint = np.clip(np.array(paints[int(rng.integers(len(paints)))], float) + rng.normal(0, 12, 3), 15, 248)
    mesh = Mesh()
    {"car": _car, "van": _van, "bus": _bus}[cls](mesh, paint, size_m, rng)
    counts = [len(p) for p in mesh.points]
    ends = np.cumsum(counts)
    shines = np.zeros(len(counts), bool)
    if lights_on:
        shines[mesh.lamps] = True
    return VehicleLook(
        vertices=np.concatenate(mesh.points),
        starts=[(int(end - n), int(end)) for n, end in zip(counts, ends, strict=True)],
        centres=np.array([p.mean(axis=0) for p in mesh.points]),
        normals=np.array(mesh.normals),
        colours=np.array(mesh.colours),
        shines=shines,
    )


def vehicle_shapes(
    camera: Camera, look: VehicleLook, x: float, z: float, direction: int, light: FloatArray
) -> list[Shape]:
    """The faces turned to the camera of a vehicle whose middle stands at (x, 0, z)."""
    turn = np.array([direction, 1.0, direction])
    offset = np.array([x, 0.0, z])
    to_face = look.centres * turn + offset - np.array([0.0, camera.height_m, 0.0])
    facing = np.einsum("ij,ij->i", to_face, look.normals * turn) <= 0
    pixels = fixed(camera.project(look.vertices * turn + offset))
    colours = np.where(look.shines[:, None], look.colours, np.minimum(look.colours * light, 255.0)).tolist()
    return [
        Shape(pixels[look.starts[k][0] : look.starts[k][1]], (colours[k][0], colours[k][1], colours[k][2]))
        for k in np.flatnonzero(facing).tolist()
    ]


def _shade(normal: FloatArray) -> float:
    """Light from the sky: bright from above, darker at the ends than at the sides."""
    if not normal.any():
        return 1.0
    return 0.84 + 0.24 * max(float(normal[1]), 0.0) - 0.1 * abs(float(normal[0]))


def _hull(
    mesh: Mesh, profile: list[tuple[float, float]], half_widths: list[float], colour: FloatArray
) -> None:
    """A body: the (u, v) profile, clockwise seen from the right, swept to both sides."""
    right = np.array([[u, v, -w] for (u, v), w in zip(profile, half_widths, strict=True)])
    left = right * [1, 1, -1]
    centre = np.concatenate([right, left]).mean(axis=0)
    for k in range(len(profile)):
        n = (k + 1) % len(profile)
        quad = np.array([right[k], right[n], left[n], left[k]])
        mesh.add(quad, colour, _outward(quad, centre))
    for side in (left, right):
        mesh.add(side, colour, _outward(side, centre))


def _outward(points: FloatArray, centre: FloatArray) -> FloatArray:
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    result: FloatArray = normal if float((points.mean(axis=0) - centre) @ normal) >= 0 else -normal
    return result


def _sides(
    mesh: Mesh, outline: list[tuple[float, float]], w_low: float, w_high: float, colour: FloatArray,
    lamp: bool = False,
) -> None:  # fmt: skip
    """The same panel on both flanks; its width goes from w_low at the lowest v to w_high at the highest."""
    vs = [v for _, v in outline]
    low, high = min(vs), max(vs)
    for sign in (1.0, -1.0):
        points = [
            (u, v, sign * (w_low + (w_high - w_low) * (v - low) / max(high - low, 1e-6))) for u, v in outline
        ]
        mesh.add(np.array(points), colour, np.array([0, 0, sign]), lamp)


def _patch(
    mesh: Mesh, low: tuple[float, float], high: tuple[float, float], w_from: float, w_to: float,
    w_from_high: float, w_to_high: float, colour: FloatArray, lamp: bool = False,
) -> None:  # fmt: skip
    """A panel across the front or the rear, between two (u, v) points of its slope."""
    quad = np.array([
        [*low, w_from], [*low, w_to], [*high, w_to_high], [*high, w_from_high],
    ])  # fmt: skip
    mesh.add(quad, colour, _outward(quad, np.array([0.0, 0.6, (w_from + w_to) / 2])), lamp)


def _wheels(mesh: Mesh, us: tuple[float, ...], radius: float, w: float) -> None:
    for sign in (1.0, -1.0):
        for u in us:
            for r, name in ((radius, "tyre"), (radius * 0.58, "hub")):
                ring = np.stack(
                    [u + r * np.cos(_CIRCLE), radius + r * np.sin(_CIRCLE), np.full(14, sign * w)], -1
                )
                mesh.add(ring, np.array(MATERIALS[name], float), np.array([0, 0, sign]))


def _under(
    mesh: Mesh, length: float, width: float, clear: float, us: tuple[float, ...], radius: float
) -> None:
    """What is seen beneath: the shadowed floor and the wheels of the far side."""
    dark = np.array(MATERIALS["under"], float)
    l, w = length / 2 * 0.94, width / 2 * 0.9
    mesh.add(np.array([[-l, 0.06, -w], [l, 0.06, -w], [l, 0.06, w], [-l, 0.06, w]]), dark, np.zeros(3))
    for sign in (1.0, -1.0):
        mesh.add(np.array([[-l, 0.1, sign * w], [l, 0.1, sign * w], [l, clear + 0.1, sign * w],
                           [-l, clear + 0.1, sign * w]]), dark, np.zeros(3))  # fmt: skip
        for u in us:
            ring = np.stack([u + radius * np.cos(_CIRCLE), radius + radius * np.sin(_CIRCLE),
                             np.full(14, sign * w)], -1)  # fmt: skip
            mesh.add(ring, np.array(MATERIALS["tyre"], float), np.zeros(3))


def _lamps(
    mesh: Mesh, front_u: float, rear_u: float, v: float, tall: float, half: float, wide: float
) -> None:
    for sign in (1.0, -1.0):
        a, b = sign * half, sign * (half - wide)
        front, rear = np.array([215.0, 245.0, 250.0]), np.array([30.0, 30.0, 200.0])
        _patch(mesh, (front_u, v), (front_u, v + tall), a, b, a, b, front, lamp=True)
        _patch(mesh, (rear_u, v), (rear_u, v + tall), a, b, a, b, rear, lamp=True)


def _car(mesh: Mesh, paint: FloatArray, size_m: tuple[float, float, float], rng: np.random.Generator) -> None:
    length, width, height = size_m
    l, w = length / 2, width / 2
    estate = rng.random() < 0.45  # a hatchback or estate: the roof goes far back
    us, radius = (-0.58 * l, 0.62 * l), 0.32
    belt = 0.62 * height
    glass = np.array(MATERIALS["glass"], float) * rng.uniform(0.8, 1.3)
    _under(mesh, length, width, 0.28, us, radius)
    profile = [(-0.97 * l, 0.26), (-l, 0.5), (-0.98 * l, belt), (0.42 * l, belt), (0.94 * l, 0.51 * height),
               (l, 0.4), (0.97 * l, 0.24)]  # fmt: skip
    _hull(mesh, profile, [w * 0.97, w, w * 0.96, w * 0.97, w * 0.92, w, w * 0.96], paint)
    _patch(mesh, (1.005 * l, 0.3), (1.005 * l, 0.42), -0.5 * w, 0.5 * w, -0.5 * w, 0.5 * w,
           np.array(MATERIALS["trim"], float))  # fmt: skip
    _patch(
        mesh,
        (-1.005 * l, 0.42),
        (-1.005 * l, 0.54),
        -0.25,
        0.25,
        -0.25,
        0.25,
        np.array(MATERIALS["plate"], float),
    )
    _lamps(mesh, 0.99 * l, -1.0 * l, 0.5, 0.16, 0.9 * w, 0.34)
    _wheels(mesh, us, radius, w * 1.005)
    rear_low, rear_high = (-0.94 * l, -0.78 * l) if estate else (-0.74 * l, -0.42 * l)
    front_low, front_high = 0.44 * l, 0.08 * l
    cabin = [(rear_low, belt), (rear_high, height), (front_high, height), (front_low, belt)]
    _hull(mesh, cabin, [w * 0.93, w * 0.74, w * 0.74, w * 0.93], paint)
    inset = 0.1 * (height - belt)
    low, high = belt + inset, height - inset
    _patch(mesh, (front_low - 0.04 * l + 0.02, low), (front_high + 0.05 * l, high), -0.84 * w, 0.84 * w,
           -0.7 * w, 0.7 * w, glass)  # fmt: skip
    _patch(mesh, (rear_low + 0.02 * l, low), (rear_high - 0.03 * l, high), -0.8 * w, 0.8 * w, -0.66 * w, 0.66 * w,
           glass)  # fmt: skip
    split = -0.12 * l
    for a, b, c, d in ((front_low - 0.1 * l, split + 0.03, split + 0.03, front_high + 0.0),
                       (split - 0.03, rear_low + 0.1 * l, rear_high + 0.04 * l, split - 0.03)):  # fmt: skip
        _sides(mesh, [(a, low), (b, low), (c, high), (d, high)], w * 0.915, w * 0.765, glass)


def _van(mesh: Mesh, paint: FloatArray, size_m: tuple[float, float, float], rng: np.random.Generator) -> None:
    length, width, height = size_m
    l, w = length / 2, width / 2
    us, radius = (-0.6 * l, 0.62 * l), 0.35
    glass = np.array(MATERIALS["glass"], float) * rng.uniform(0.8, 1.2)
    _under(mesh, length, width, 0.32, us, radius)
    profile = [(-l, 0.32), (-l, height * 0.96), (-0.97 * l, height), (0.46 * l, height), (0.78 * l, height * 0.56),
               (0.97 * l, height * 0.47), (l, 0.5), (0.98 * l, 0.3)]  # fmt: skip
    _hull(mesh, profile, [w, w * 0.97, w * 0.93, w * 0.92, w * 0.98, w, w, w * 0.97], paint)
    _patch(mesh, (0.745 * l, height * 0.61), (0.505 * l, height * 0.95), -0.88 * w, 0.88 * w, -0.82 * w, 0.82 * w,
           glass)  # fmt: skip
    _patch(mesh, (1.003 * l, 0.42), (1.003 * l, 0.62), -0.6 * w, 0.6 * w, -0.6 * w, 0.6 * w,
           np.array(MATERIALS["trim"], float))  # fmt: skip
    if rng.random() < 0.6:
        for sign in (1.0, -1.0):
            _patch(mesh, (-1.003 * l, height * 0.6), (-1.003 * l, height * 0.88), sign * 0.08, sign * 0.86 * w,
                   sign * 0.08, sign * 0.82 * w, glass)  # fmt: skip
    _lamps(mesh, 1.0 * l, -1.004 * l, 0.72, 0.2, 0.92 * w, 0.36)
    _sides(mesh, [(0.7 * l, height * 0.58), (0.3 * l, height * 0.58), (0.3 * l, height * 0.9),
                  (0.46 * l, height * 0.9)], w * 1.0, w * 0.96, glass)  # fmt: skip
    if rng.random() < 0.5:  # a second window, or a coloured stripe
        _sides(mesh, [(0.22 * l, height * 0.6), (-0.3 * l, height * 0.6), (-0.3 * l, height * 0.88),
                      (0.22 * l, height * 0.88)], w * 1.0, w * 0.96, glass)  # fmt: skip
    else:
        stripe = rng.uniform(30, 220, 3)
        _sides(mesh, [(0.2 * l, height * 0.4), (-0.96 * l, height * 0.4), (-0.96 * l, height * 0.52),
                      (0.2 * l, height * 0.52)], w * 1.004, w * 1.004, stripe)  # fmt: skip
    _sides(mesh, [(0.96 * l, 0.36), (-0.98 * l, 0.36), (-0.98 * l, 0.5), (0.96 * l, 0.5)], w * 1.003, w * 1.003,
           np.array(MATERIALS["trim"], float))  # fmt: skip
    _wheels(mesh, us, radius, w * 1.01)


def _bus(mesh: Mesh, paint: FloatArray, size_m: tuple[float, float, float], rng: np.random.Generator) -> None:
    length, width, height = size_m
    l, w = length / 2, width / 2
    us, radius = (-0.5 * l, 0.58 * l), 0.47
    glass = np.array(MATERIALS["glass"], float) * rng.uniform(0.8, 1.2)
    second = np.array(MATERIALS["white"], float) if rng.random() < 0.5 else paint * 0.7
    _under(mesh, length, width, 0.34, us, radius)
    profile = [(-l, 0.32), (-l, height * 0.97), (-0.98 * l, height), (0.97 * l, height), (0.995 * l, height * 0.96),
               (l, 0.3)]  # fmt: skip
    _hull(mesh, profile, [w, w, w * 0.96, w * 0.96, w * 0.98, w], paint)
    roof = np.array([[-0.6 * l, height + 0.01, -0.5 * w], [-0.2 * l, height + 0.01, -0.5 * w],
                     [-0.2 * l, height + 0.01, 0.5 * w], [-0.6 * l, height + 0.01, 0.5 * w]])  # fmt: skip
    mesh.add(roof, paint * 0.8, np.array([0.0, 1.0, 0.0]))
    _patch(mesh, (1.003 * l, height * 0.36), (1.003 * l, height * 0.82), -0.92 * w, 0.92 * w, -0.92 * w, 0.92 * w,
           glass)  # fmt: skip
    amber = np.array([40.0, 170.0, 240.0])
    _patch(
        mesh,
        (1.004 * l, height * 0.85),
        (1.004 * l, height * 0.93),
        -0.6 * w,
        0.6 * w,
        -0.6 * w,
        0.6 * w,
        amber,
    )
    _patch(
        mesh,
        (-1.003 * l, height * 0.55),
        (-1.003 * l, height * 0.85),
        -0.8 * w,
        0.8 * w,
        -0.8 * w,
        0.8 * w,
        glass,
    )
    _lamps(mesh, 1.003 * l, -1.003 * l, 0.62, 0.22, 0.92 * w, 0.4)
    _sides(mesh, [(0.98 * l, 0.34), (-0.98 * l, 0.34), (-0.98 * l, 0.72), (0.98 * l, 0.72)], w * 1.002, w * 1.002,
           second)  # fmt: skip
    doors = (0.78, 0.02)
    count = 8
    for k in range(count):
        a, b = (0.95 - 1.9 * k / count) * l, (0.95 - 1.9 * (k + 1) / count + 0.03) * l
        middle = (a + b) / 2 / l
        door = any(abs(middle - d) < 0.12 for d in doors)
        low = 0.36 if door else height * 0.42
        tone = np.array(MATERIALS["glass_light"], float) if door else glass
        _sides(mesh, [(a, low), (b, low), (b, height * 0.86), (a, height * 0.86)], w * 1.004, w * 1.004, tone)
    _wheels(mesh, us, radius, w * 1.01)
