"""Cars, vans and buses: small meshes of flat faces, painted back to front.

Local axes in metres: u forward, v up, w to the left of the vehicle. A face is a convex polygon with a
material.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.actors import Pose
from framegrid_sim.camera import Camera
from framegrid_sim.mesh import MATERIALS, Mesh, Size
from framegrid_sim.shapes import FloatArray, Shape, fixed

PAINTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "car": (
        (235, 235, 235),
        (190, 190, 188),
        (120, 120, 122),
        (44, 42, 42),
        (140, 70, 30),
        (36, 36, 170),
        (50, 90, 40),
        (180, 200, 215),
        (40, 170, 215),
        (120, 40, 90),
        (90, 60, 50),
        (200, 150, 90),
    ),
    "van": (
        (240, 240, 240),
        (225, 225, 222),
        (60, 60, 62),
        (30, 60, 190),
        (150, 90, 40),
        (40, 180, 230),
        (90, 130, 70),
    ),
    "bus": ((40, 40, 190), (40, 150, 220), (150, 100, 30), (80, 140, 50), (230, 230, 230), (60, 190, 240)),
}


@dataclass(frozen=True)
class VehicleLook:
    """A mesh packed for drawing."""

    vertices: FloatArray  # (V, 3)
    starts: list[tuple[int, int]]  # of each face's vertices
    centres: FloatArray  # (F, 3)
    normals: FloatArray  # (F, 3)
    colours: FloatArray  # (F, 3)
    shines: NDArray[np.bool_]  # (F,)


def build_vehicle(cls: str, look_seed: int, size_m: Size, lights_on: bool) -> VehicleLook:
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


def vehicle_shapes(camera: Camera, look: VehicleLook, pose: Pose, light: FloatArray) -> list[Shape]:
    """The faces turned to the camera of a vehicle; light multiplies their colours, (3,) BGR."""
    turn = np.array([pose.direction, 1.0, pose.direction])
    offset = np.array([pose.x_m, 0.0, pose.z_m])
    to_face = look.centres * turn + offset - np.array([0.0, camera.height_m, 0.0])
    facing = np.einsum("ij,ij->i", to_face, look.normals * turn) <= 0
    pixels = fixed(camera.project(look.vertices * turn + offset))
    colours = np.where(look.shines[:, None], look.colours, np.minimum(look.colours * light, 255.0)).tolist()
    return [
        Shape(pixels[look.starts[k][0] : look.starts[k][1]], (colours[k][0], colours[k][1], colours[k][2]))
        for k in np.flatnonzero(facing).tolist()
    ]


def _car(mesh: Mesh, paint: FloatArray, size_m: Size, rng: np.random.Generator) -> None:
    length, width, height = size_m
    lh, w = length / 2, width / 2
    estate = rng.random() < 0.45  # a hatchback or estate: the roof goes far back
    us, radius = (-0.58 * lh, 0.62 * lh), 0.32
    belt = 0.62 * height
    glass = MATERIALS["glass"] * rng.uniform(0.8, 1.3)
    mesh.under(size_m, 0.28, us, radius)
    profile = [
        (-0.97 * lh, 0.26),
        (-lh, 0.5),
        (-0.98 * lh, belt),
        (0.42 * lh, belt),
        (0.94 * lh, 0.51 * height),
        (lh, 0.4),
        (0.97 * lh, 0.24),
    ]
    mesh.hull(profile, [w * 0.97, w, w * 0.96, w * 0.97, w * 0.92, w, w * 0.96], paint)
    mesh.patch((1.005 * lh, 0.3, -0.5 * w, 0.5 * w), (1.005 * lh, 0.42, -0.5 * w, 0.5 * w), MATERIALS["trim"])
    mesh.patch((-1.005 * lh, 0.42, -0.25, 0.25), (-1.005 * lh, 0.54, -0.25, 0.25), MATERIALS["plate"])
    mesh.lamp_pairs((0.99 * lh, -1.0 * lh), (0.5, 0.66), (0.9 * w, 0.9 * w - 0.34))
    mesh.wheels(us, radius, w * 1.005)
    rear_low, rear_high = (-0.94 * lh, -0.78 * lh) if estate else (-0.74 * lh, -0.42 * lh)
    front_low, front_high = 0.44 * lh, 0.08 * lh
    cabin = [(rear_low, belt), (rear_high, height), (front_high, height), (front_low, belt)]
    mesh.hull(cabin, [w * 0.93, w * 0.74, w * 0.74, w * 0.93], paint)
    inset = 0.1 * (height - belt)
    low, high = belt + inset, height - inset
    mesh.patch(
        (front_low - 0.04 * lh + 0.02, low, -0.84 * w, 0.84 * w),
        (front_high + 0.05 * lh, high, -0.7 * w, 0.7 * w),
        glass,
    )
    mesh.patch(
        (rear_low + 0.02 * lh, low, -0.8 * w, 0.8 * w),
        (rear_high - 0.03 * lh, high, -0.66 * w, 0.66 * w),
        glass,
    )
    split = -0.12 * lh
    for a, b, c, d in (
        (front_low - 0.1 * lh, split + 0.03, split + 0.03, front_high + 0.0),
        (split - 0.03, rear_low + 0.1 * lh, rear_high + 0.04 * lh, split - 0.03),
    ):
        mesh.sides([(a, low), (b, low), (c, high), (d, high)], (w * 0.915, w * 0.765), glass)


def _van(mesh: Mesh, paint: FloatArray, size_m: Size, rng: np.random.Generator) -> None:
    length, width, height = size_m
    lh, w = length / 2, width / 2
    us, radius = (-0.6 * lh, 0.62 * lh), 0.35
    glass = MATERIALS["glass"] * rng.uniform(0.8, 1.2)
    mesh.under(size_m, 0.32, us, radius)
    profile = [
        (-lh, 0.32),
        (-lh, height * 0.96),
        (-0.97 * lh, height),
        (0.46 * lh, height),
        (0.78 * lh, height * 0.56),
        (0.97 * lh, height * 0.47),
        (lh, 0.5),
        (0.98 * lh, 0.3),
    ]
    mesh.hull(profile, [w, w * 0.97, w * 0.93, w * 0.92, w * 0.98, w, w, w * 0.97], paint)
    mesh.patch(
        (0.745 * lh, height * 0.61, -0.88 * w, 0.88 * w),
        (0.505 * lh, height * 0.95, -0.82 * w, 0.82 * w),
        glass,
    )
    mesh.patch(
        (1.003 * lh, 0.42, -0.6 * w, 0.6 * w), (1.003 * lh, 0.62, -0.6 * w, 0.6 * w), MATERIALS["trim"]
    )
    if rng.random() < 0.6:
        for sign in (1.0, -1.0):
            mesh.patch(
                (-1.003 * lh, height * 0.6, sign * 0.08, sign * 0.86 * w),
                (-1.003 * lh, height * 0.88, sign * 0.08, sign * 0.82 * w),
                glass,
            )
    mesh.lamp_pairs((1.0 * lh, -1.004 * lh), (0.72, 0.92), (0.92 * w, 0.92 * w - 0.36))
    mesh.sides(
        [
            (0.7 * lh, height * 0.58),
            (0.3 * lh, height * 0.58),
            (0.3 * lh, height * 0.9),
            (0.46 * lh, height * 0.9),
        ],
        (w * 1.0, w * 0.96),
        glass,
    )
    if rng.random() < 0.5:  # a second window, or a coloured stripe
        mesh.sides(
            [
                (0.22 * lh, height * 0.6),
                (-0.3 * lh, height * 0.6),
                (-0.3 * lh, height * 0.88),
                (0.22 * lh, height * 0.88),
            ],
            (w * 1.0, w * 0.96),
            glass,
        )
    else:
        stripe = rng.uniform(30, 220, 3)
        mesh.sides(
            [
                (0.2 * lh, height * 0.4),
                (-0.96 * lh, height * 0.4),
                (-0.96 * lh, height * 0.52),
                (0.2 * lh, height * 0.52),
            ],
            (w * 1.004, w * 1.004),
            stripe,
        )
    mesh.sides(
        [(0.96 * lh, 0.36), (-0.98 * lh, 0.36), (-0.98 * lh, 0.5), (0.96 * lh, 0.5)],
        (w * 1.003, w * 1.003),
        MATERIALS["trim"],
    )
    mesh.wheels(us, radius, w * 1.01)


def _bus(mesh: Mesh, paint: FloatArray, size_m: Size, rng: np.random.Generator) -> None:
    length, width, height = size_m
    lh, w = length / 2, width / 2
    us, radius = (-0.5 * lh, 0.58 * lh), 0.47
    glass = MATERIALS["glass"] * rng.uniform(0.8, 1.2)
    second = MATERIALS["white"] if rng.random() < 0.5 else paint * 0.7
    mesh.under(size_m, 0.34, us, radius)
    profile = [
        (-lh, 0.32),
        (-lh, height * 0.97),
        (-0.98 * lh, height),
        (0.97 * lh, height),
        (0.995 * lh, height * 0.96),
        (lh, 0.3),
    ]
    mesh.hull(profile, [w, w, w * 0.96, w * 0.96, w * 0.98, w], paint)
    roof = np.array(
        [
            [-0.6 * lh, height + 0.01, -0.5 * w],
            [-0.2 * lh, height + 0.01, -0.5 * w],
            [-0.2 * lh, height + 0.01, 0.5 * w],
            [-0.6 * lh, height + 0.01, 0.5 * w],
        ]
    )
    mesh.add(roof, paint * 0.8, np.array([0.0, 1.0, 0.0]))
    mesh.patch(
        (1.003 * lh, height * 0.36, -0.92 * w, 0.92 * w),
        (1.003 * lh, height * 0.82, -0.92 * w, 0.92 * w),
        glass,
    )
    mesh.patch(
        (1.004 * lh, height * 0.85, -0.6 * w, 0.6 * w),
        (1.004 * lh, height * 0.93, -0.6 * w, 0.6 * w),
        MATERIALS["amber"],
    )
    mesh.patch(
        (-1.003 * lh, height * 0.55, -0.8 * w, 0.8 * w),
        (-1.003 * lh, height * 0.85, -0.8 * w, 0.8 * w),
        glass,
    )
    mesh.lamp_pairs((1.003 * lh, -1.003 * lh), (0.62, 0.84), (0.92 * w, 0.92 * w - 0.4))
    mesh.sides(
        [(0.98 * lh, 0.34), (-0.98 * lh, 0.34), (-0.98 * lh, 0.72), (0.98 * lh, 0.72)],
        (w * 1.002, w * 1.002),
        second,
    )
    doors = (0.78, 0.02)
    count = 8
    for k in range(count):
        a, b = (0.95 - 1.9 * k / count) * lh, (0.95 - 1.9 * (k + 1) / count + 0.03) * lh
        middle = (a + b) / 2 / lh
        door = any(abs(middle - d) < 0.12 for d in doors)
        low = 0.36 if door else height * 0.42
        tone = MATERIALS["glass_light"] if door else glass
        mesh.sides([(a, low), (b, low), (b, height * 0.86), (a, height * 0.86)], (w * 1.004, w * 1.004), tone)
    mesh.wheels(us, radius, w * 1.01)
