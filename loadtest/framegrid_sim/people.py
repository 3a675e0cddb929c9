"""Persons on foot and on bicycles: skeletons that walk and pedal, dressed with capsules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.actors import Pose
from framegrid_sim.camera import Camera
from framegrid_sim.shapes import FloatArray, Shape, capsules, fixed

SKINS = ((172, 196, 232), (140, 174, 222), (106, 144, 198), (72, 104, 158), (48, 72, 112), (36, 52, 82))
HAIRS = (
    (24, 24, 28),
    (30, 44, 66),
    (48, 74, 112),
    (96, 150, 196),
    (150, 150, 156),
    (40, 52, 130),
    (210, 214, 216),
)
CLOTHES = (
    (40, 40, 44), (70, 66, 60), (120, 116, 110), (200, 198, 192), (232, 230, 226), (120, 60, 30),
    (160, 96, 44), (196, 150, 90), (40, 40, 150), (50, 60, 200), (60, 110, 60), (70, 150, 90), (60, 150, 220),
    (90, 200, 230), (130, 70, 130), (180, 130, 200), (80, 100, 140), (40, 70, 110), (140, 140, 60),
    (160, 180, 210),
)  # fmt: skip

# Lengths as shares of the body height, after Winter, "Biomechanics and Motor Control of Human Movement", fig.
# 4.1.
THIGH, SHIN, UPPER_ARM, FOREARM = 0.245, 0.246, 0.186, 0.17
HIP_Y, SHOULDER_Y, HEAD_Y = 0.53, 0.815, 0.93
STRIDE = 0.82  # of the body height, two steps
# Capsules of a body, painted in this order: from joint, to joint, radii there as shares of the height.
_JOINTS = (
    "hip", "neck", "head", "crown", "shoulder_f", "elbow_f", "hand_f", "shoulder_n", "elbow_n", "hand_n",
    "hip_f", "knee_f", "ankle_f", "toe_f", "hip_n", "knee_n", "ankle_n", "toe_n", "back_up", "back_low",
)  # fmt: skip
_J = {name: k for k, name in enumerate(_JOINTS)}
_PARTS: tuple[tuple[str, str, float, float, str], ...] = (
    ("shoulder_f", "elbow_f", 0.034, 0.029, "top"),
    ("elbow_f", "hand_f", 0.028, 0.022, "sleeve"),
    ("hip_f", "knee_f", 0.055, 0.042, "legs"),
    ("knee_f", "ankle_f", 0.040, 0.028, "calf"),
    ("ankle_f", "toe_f", 0.026, 0.021, "shoe"),
    ("hip_n", "knee_n", 0.055, 0.042, "legs"),
    ("knee_n", "ankle_n", 0.040, 0.028, "calf"),
    ("ankle_n", "toe_n", 0.026, 0.021, "shoe"),
    ("hip", "neck", 0.072, 0.088, "top"),
    ("back_low", "back_up", 0.062, 0.058, "bag"),
    ("neck", "head", 0.034, 0.060, "skin"),
    ("crown", "crown", 0.064, 0.064, "hair"),
    ("head", "head", 0.054, 0.054, "skin"),
    ("shoulder_n", "elbow_n", 0.034, 0.029, "top"),
    ("elbow_n", "hand_n", 0.028, 0.022, "sleeve"),
)
_FROM = np.array([_J[part[0]] for part in _PARTS])
_TO = np.array([_J[part[1]] for part in _PARTS])
_RADII = np.array([[part[2], part[3]] for part in _PARTS])
_BAG, _TORSO = 9, 8


@dataclass(frozen=True)
class PersonLook:
    """One person's body and clothes."""

    height_m: float
    girth: float  # widens every capsule
    colours: NDArray[np.float64]  # (parts, 3) BGR
    bag: bool
    skirt: tuple[float, float, float] | None
    umbrella: tuple[float, float, float] | None
    phase: float  # where in his step he starts


def dress(look_seed: int, height_m: float, rain: bool) -> PersonLook:
    """A person's looks, the same for the same seed."""
    rng = np.random.default_rng(look_seed)

    def pick(palette: tuple[tuple[int, int, int], ...]) -> NDArray[np.float64]:
        return np.clip(np.array(palette[int(rng.integers(len(palette)))]) + rng.normal(0, 10, 3), 8, 245)

    skin, hair, top, legs, shoe = pick(SKINS), pick(HAIRS), pick(CLOTHES), pick(CLOTHES), pick(CLOTHES[:7])
    if rng.random() < 0.45:
        legs = pick(((60, 44, 36), (90, 66, 50), (44, 42, 42), (110, 90, 74)))  # jeans and dark trousers
    bag_colour = pick(CLOTHES)
    sleeve = skin if rng.random() < 0.35 else top * 0.96
    calf = skin if rng.random() < 0.2 else legs * 0.97
    tones = {
        "top": top, "sleeve": sleeve, "legs": legs, "calf": calf, "shoe": shoe, "skin": skin, "hair": hair,
        "bag": bag_colour,
    }  # fmt: skip
    colours = np.array([tones[part[4]] * (0.86 if part[0].endswith("_f") else 1.0) for part in _PARTS])
    skirt = tuple(float(v) for v in pick(CLOTHES)) if rng.random() < 0.18 else None
    umbrella = tuple(float(v) for v in pick(CLOTHES)) if rain and rng.random() < 0.4 else None
    return PersonLook(
        height_m=height_m,
        girth=float(rng.uniform(0.9, 1.28)),
        colours=colours,
        bag=bool(rng.random() < 0.3),
        skirt=skirt,  # type: ignore[arg-type]
        umbrella=umbrella,  # type: ignore[arg-type]
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def walking_shapes(camera: Camera, look: PersonLook, pose: Pose, light: FloatArray) -> list[Shape]:
    """The shapes of a walker; light multiplies his colours, (3,) BGR."""
    phase = look.phase + pose.gone_m / (STRIDE * look.height_m) * 2 * np.pi
    joints = _walking_joints(phase) * look.height_m
    return _body(camera, look, joints, pose, light)


def riding_shapes(camera: Camera, look: PersonLook, pose: Pose, light: FloatArray) -> list[Shape]:
    """The shapes of a bicycle and its rider, one object."""
    joints = _riding_joints(look.phase + pose.gone_m * 1.35)
    frame_colour = look.colours[_BAG] * light
    dark = (float(34 * light[0]), float(34 * light[1]), float(34 * light[2]))
    metal = (float(frame_colour[0]), float(frame_colour[1]), float(frame_colour[2]))
    scale = float(camera.scale(np.array([pose.x_m, 0.5, pose.z_m])))
    tyre = max(1, round(0.045 * scale))
    angles = np.linspace(0, 2 * np.pi, 19)[:-1]
    shapes = []
    for hub in (-0.53, 0.53):
        rim = np.stack([hub + 0.34 * np.cos(angles), 0.34 + 0.34 * np.sin(angles)], axis=-1)
        shapes.append(Shape(fixed(_flat(camera, rim, pose)), dark, tyre))
    tubes = np.array([
        [[-0.53, 0.34], [-0.02, 0.30]], [[-0.53, 0.34], [-0.18, 0.78]], [[-0.02, 0.30], [-0.20, 0.90]],
        [[-0.02, 0.30], [0.38, 0.80]], [[-0.18, 0.78], [0.38, 0.80]], [[0.53, 0.34], [0.36, 1.02]],
    ])  # fmt: skip
    ends = _flat(camera, tubes.reshape(-1, 2), pose).reshape(-1, 2, 2)
    radius = np.full(len(tubes), max(0.5, 0.022 * scale))
    for outline in capsules(ends[:, 0], ends[:, 1], radius, radius):
        shapes.append(Shape(fixed(outline), metal))
    return shapes + _body(camera, look, joints, pose, light, riding=True)


def _flat(camera: Camera, points: FloatArray, pose: Pose) -> FloatArray:
    """Pixels of points (n, 2) of the upright plane through the actor: forward, up."""
    xs = pose.x_m + pose.direction * points[:, 0]
    return camera.project(np.stack([xs, points[:, 1], np.full(len(points), pose.z_m)], axis=-1))


def _walking_joints(phase: float) -> FloatArray:
    """(joints, 3): forward, up, away from the camera, in body heights; the lower foot on the ground."""
    j = np.zeros((len(_JOINTS), 3))
    lowest = 1.0
    for side, k, shift in (("f", 1.0, 0.0), ("n", -1.0, np.pi)):
        swing = 0.42 * np.sin(phase + shift)
        flex = 0.85 * max(0.0, np.cos(phase + shift)) + 0.06
        hip = np.array([0.0, HIP_Y, k * 0.045])
        knee = hip + THIGH * np.array([np.sin(swing), -np.cos(swing), 0])
        ankle = knee + SHIN * np.array([np.sin(swing - flex), -np.cos(swing - flex), 0])
        toe = ankle + np.array([0.085, -0.004, 0])
        arm = -0.45 * np.sin(phase + shift)
        shoulder = np.array([0.0, SHOULDER_Y, k * 0.105])
        elbow = shoulder + UPPER_ARM * np.array([np.sin(arm), -np.cos(arm), k * 0.1])
        hand = elbow + FOREARM * np.array([np.sin(arm + 0.35), -np.cos(arm + 0.35), 0])
        for name, point in (("hip", hip), ("knee", knee), ("ankle", ankle), ("toe", toe)):
            j[_J[f"{name}_{side}"]] = point
        for name, point in (("shoulder", shoulder), ("elbow", elbow), ("hand", hand)):
            j[_J[f"{name}_{side}"]] = point
        lowest = min(lowest, ankle[1])
    j[_J["hip"]] = (0.0, HIP_Y + 0.03, 0)
    j[_J["neck"]] = (0.012, SHOULDER_Y - 0.02, 0)
    j[_J["head"]] = (0.022, HEAD_Y, 0)
    j[_J["crown"]] = (0.006, HEAD_Y + 0.014, 0)
    j[_J["back_low"]] = (-0.085, 0.62, 0)
    j[_J["back_up"]] = (-0.085, 0.74, 0)
    j[:, 1] -= lowest - 0.026
    return j


def _riding_joints(pedal: float) -> FloatArray:
    """As `_walking_joints` but in metres, on a bicycle whose pedals stand at the angle `pedal`."""
    j = np.zeros((len(_JOINTS), 3))
    hip, neck = np.array([-0.2, 0.96, 0.0]), np.array([0.1, 1.42, 0.0])
    for side, k, shift in (("f", 1.0, 0.0), ("n", -1.0, np.pi)):
        foot = np.array([-0.02 + 0.16 * np.cos(pedal + shift), 0.3 - 0.16 * np.sin(pedal + shift), k * 0.12])
        start = hip + np.array([0, 0, k * 0.1])
        j[_J[f"hip_{side}"]] = start
        j[_J[f"knee_{side}"]] = _bend(start, foot, 0.42, 0.42, forward=True)
        j[_J[f"ankle_{side}"]] = foot
        j[_J[f"toe_{side}"]] = foot + np.array([0.12, -0.02, 0])
        shoulder = neck + np.array([-0.02, -0.02, k * 0.18])
        hand = np.array([0.38, 1.05, k * 0.2])
        j[_J[f"shoulder_{side}"]] = shoulder
        j[_J[f"elbow_{side}"]] = _bend(shoulder, hand, 0.31, 0.3, forward=False)
        j[_J[f"hand_{side}"]] = hand
    j[_J["hip"]], j[_J["neck"]] = hip, neck
    j[_J["head"]] = neck + np.array([0.09, 0.2, 0])
    j[_J["crown"]] = neck + np.array([0.06, 0.23, 0])
    j[_J["back_low"]] = hip + np.array([0.0, 0.25, 0])
    j[_J["back_up"]] = hip + np.array([0.12, 0.42, 0])
    return j


def _bend(a: FloatArray, b: FloatArray, upper: float, lower: float, forward: bool) -> FloatArray:
    """The joint between a and b of a limb with these two lengths (law of cosines), bent forward or back."""
    along = b - a
    length = min(float(np.hypot(along[0], along[1])), (upper + lower) * 0.999)
    reach = (upper**2 - lower**2 + length**2) / (2 * length)
    out = np.sqrt(max(upper**2 - reach**2, 0.0))
    unit = along / max(float(np.hypot(along[0], along[1])), 1e-6)
    normal = np.array([-unit[1], unit[0], 0.0]) * (1 if forward else -1)
    result: FloatArray = a + unit * reach + normal * out
    return result


def _body(
    camera: Camera,
    look: PersonLook,
    joints: FloatArray,
    pose: Pose,
    light: FloatArray,
    *,
    riding: bool = False,
) -> list[Shape]:
    world = joints * np.array([pose.direction, 1.0, 1.0]) + np.array([pose.x_m, 0.0, pose.z_m])
    points = camera.project(world)
    scale = camera.scale(np.array([pose.x_m, look.height_m / 2, pose.z_m])) * (
        1.72 if riding else look.height_m
    )
    radii = _RADII * (scale * look.girth)
    radii[10:13] = _RADII[10:13] * scale  # heads do not grow with girth
    outlines = fixed(capsules(points[_FROM], points[_TO], radii[:, 0], radii[:, 1]))
    colours = np.minimum(look.colours * light, 255.0).tolist()
    shapes = [
        Shape(outline, (c[0], c[1], c[2]))
        for k, (outline, c) in enumerate(zip(outlines, colours, strict=True))
        if k != _BAG or look.bag
    ]
    if look.skirt is not None and not riding:
        shapes.insert(_TORSO, _skirt(look, points, float(scale), light))
    if look.umbrella is not None and not riding:
        shapes += _umbrella(camera, look, world, pose.direction, light)
    return shapes


def _skirt(look: PersonLook, points: FloatArray, scale: float, light: FloatArray) -> Shape:
    assert look.skirt is not None
    hip = points[_J["hip"]]
    hem = (points[_J["knee_f"]] + points[_J["knee_n"]]) / 2
    wide = 0.085 * scale + abs(points[_J["knee_f"]][0] - points[_J["knee_n"]][0]) / 2
    waist = 0.07 * scale * look.girth
    outline = np.array([
        [hip[0] - waist, hip[1]], [hip[0] + waist, hip[1]], [hem[0] + wide, hem[1]], [hem[0] - wide, hem[1]],
    ])  # fmt: skip
    b, g, r = (min(float(v * k), 255.0) for v, k in zip(look.skirt, light, strict=True))
    return Shape(fixed(outline), (b, g, r))


def _umbrella(
    camera: Camera, look: PersonLook, world: FloatArray, direction: int, light: FloatArray
) -> list[Shape]:
    assert look.umbrella is not None
    hand, head = world[_J["hand_n"]], world[_J["head"]]
    top = np.array([head[0] + 0.1 * direction, head[1] + 0.42, head[2]])
    angles = np.linspace(0, 2 * np.pi, 13)[:-1]
    rim = np.stack(
        [top[0] + 0.48 * np.cos(angles), np.full(12, top[1] - 0.22), top[2] + 0.48 * np.sin(angles)], -1
    )
    stick = camera.project(np.stack([hand, top]))
    width = np.array([0.014 * float(camera.scale(top))])
    rim_px, top_px = camera.project(rim), camera.project(top)
    dark = (float(30 * light[0]), float(30 * light[1]), float(30 * light[2]))
    b, g, r = (min(float(v * k), 255.0) for v, k in zip(look.umbrella, light, strict=True))
    # The dome seen from the side: the rim's ellipse and the hull of its ends with the top.
    slope = np.array([0.2 * (rim_px[0, 0] - top_px[0]), 0.0])
    ends = np.stack([
        rim_px[rim_px[:, 0].argmin()], top_px - slope, top_px, top_px + slope, rim_px[rim_px[:, 0].argmax()],
    ])  # fmt: skip
    return [
        Shape(fixed(capsules(stick[:1], stick[1:], width, width)[0]), dark),
        Shape(fixed(rim_px), (b * 0.7, g * 0.7, r * 0.7)),
        Shape(fixed(ends), (b, g, r)),
    ]
