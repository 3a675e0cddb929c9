"""The camera and the street before it: a pinhole over a flat ground.

World, in metres: x along the street (to the right), y up, z across the street (away from the camera).
The camera stands at (0, height, 0), turned right by yaw and down by pitch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framegrid_sim.settings import LineSpec, Point, SceneSettings

FloatArray = NDArray[np.float64]

LANE_M = 3.0
BICYCLE_LANE_M = 1.4
# A grown person at the far end of the picture: 21 pixels at the input of the model, which is 416 wide.
SMALLEST_PERSON_PX = 33.0


@dataclass(frozen=True)
class Street:
    """Bands across the street, by their z in metres, nearest first."""

    near_pavement: tuple[float, float]
    road: tuple[float, float]
    far_pavement: tuple[float, float]
    wall_z: float
    lanes: tuple[tuple[float, int], ...]  # z of the lane's middle, +1 drives to the right, -1 to the left
    bicycle_lanes: tuple[tuple[float, int], ...]
    stop_x: dict[int, float]  # where vehicles wait at the traffic light, by direction
    line_x: dict[str, float]  # where the default lines cross the street


@dataclass(frozen=True)
class Camera:
    width: int
    height: int
    focal_px: float
    height_m: float
    right: FloatArray  # unit vectors of the camera in world coordinates, (3,)
    up: FloatArray
    forward: FloatArray

    def project(self, points: FloatArray) -> FloatArray:
        """World (..., 3) in metres -> pixels (..., 2). Points must be before the camera."""
        rel = points - np.array([0.0, self.height_m, 0.0])
        depth = np.maximum(rel @ self.forward, 0.2)
        x = self.width / 2 + self.focal_px * (rel @ self.right) / depth
        y = self.height / 2 - self.focal_px * (rel @ self.up) / depth
        return np.stack([x, y], axis=-1)

    def scale(self, points: FloatArray) -> FloatArray:
        """Pixels per metre at world points (..., 3)."""
        rel = points - np.array([0.0, self.height_m, 0.0])
        result: FloatArray = self.focal_px / np.maximum(rel @ self.forward, 0.2)
        return result

    def rays(self, width: int, height: int) -> FloatArray:
        """Direction of each pixel of a picture of this size, (height, width, 3), not normalised."""
        px = (np.arange(width) + 0.5) * (self.width / width) - self.width / 2
        py = self.height / 2 - (np.arange(height) + 0.5) * (self.height / height)
        rays: FloatArray = (
            self.forward * self.focal_px + px[None, :, None] * self.right + py[:, None, None] * self.up
        )
        return rays

    def x_range(self, z: float, top_m: float) -> tuple[float, float]:
        """The x between which anything from the ground up to `top_m` at this z can be in the picture."""
        ends = []
        for column in (0.0, float(self.width)):
            for y in (0.0, top_m):
                # A point (x, y, z) is in this column where (x, y-h, z) . (f*right - (c-w/2)*forward) = 0.
                normal = self.focal_px * self.right - (column - self.width / 2) * self.forward
                ends.append(-((y - self.height_m) * normal[1] + z * normal[2]) / normal[0])
        return min(ends), max(ends)


def build_camera(settings: SceneSettings, rng: np.random.Generator) -> tuple[Camera, Street]:
    """A camera and a street by the random stream; always a view in which people are big enough to be
    counted."""
    yaw = math.radians(rng.uniform(-26, 26))
    height_m = rng.uniform(4.5, 8.5)
    near_z = rng.uniform(11.0, 14.5)
    lanes_each_way = 1 if rng.random() < 0.6 else 2
    hfov = math.radians(rng.uniform(46, 58))
    near = (near_z, near_z + rng.uniform(2.6, 3.6))
    road_width = 2 * lanes_each_way * LANE_M + 2 * BICYCLE_LANE_M
    road = (near[1], near[1] + road_width)
    far = (road[1], road[1] + rng.uniform(2.4, 3.2))
    keep_right = 1 if rng.random() < 0.8 else -1
    first = road[0] + BICYCLE_LANE_M + LANE_M / 2
    lanes = tuple(
        (first + k * LANE_M, keep_right if k < lanes_each_way else -keep_right)
        for k in range(2 * lanes_each_way)
    )
    bicycles = (
        (road[0] + BICYCLE_LANE_M * 0.5, keep_right),
        (road[1] - BICYCLE_LANE_M * 0.5, -keep_right),
    )
    middle_z = (near[0] + far[1]) / 2
    tilt = math.radians(rng.uniform(-2.5, 2.5))
    while True:
        # Look at the middle of the street a little above the ground.
        pitch = math.atan2(height_m - 1.2, middle_z / math.cos(yaw)) + tilt
        camera = _look(settings, hfov, height_m, yaw, pitch)
        # Feet on the near pavement stay in the picture, at least in its middle, where lines are.
        while max(_bottom(camera, near[0] - 0.7, column) for column in (0.3, 0.5, 0.7)) > 0.95:
            pitch += math.radians(0.5)
            camera = _look(settings, hfov, height_m, yaw, pitch)
        if _smallest_px(camera, far[1]) >= SMALLEST_PERSON_PX or (abs(yaw) < 0.02 and hfov < 0.7):
            break
        yaw, hfov = yaw * 0.88, hfov * 0.99
    # The lights stand before the middle of the picture from both sides: who crosses the lines is moving.
    stops = {
        1: _x_at(camera, first, 0.36) + rng.uniform(-0.5, 0.5),
        -1: _x_at(camera, road[1] - BICYCLE_LANE_M - LANE_M / 2, 0.64) + rng.uniform(-0.5, 0.5),
    }
    line_x = {"pavement": _x_at(camera, middle_z, 0.47), "road": _x_at(camera, middle_z, 0.53)}
    wall_z = far[1] + rng.uniform(0.0, 2.0)
    return camera, Street(near, road, far, wall_z, lanes, bicycles, stops, line_x)


def default_lines(camera: Camera, street: Street) -> tuple[LineSpec, ...]:
    """`pavement`, across both pavements and the road between, and `road`, across the road alone, elsewhere.

    Both start at the near side, so going to the right is `in` and going to the left is `out`.
    """
    bands = {
        "pavement": (street.near_pavement[0] - 0.6, street.far_pavement[1] + 0.6),
        "road": (street.road[0] - 0.1, street.road[1] + 0.1),
    }
    return tuple(
        (
            name,
            _relative(camera, np.array([street.line_x[name], 0, near])),
            _relative(camera, np.array([street.line_x[name], 0, far])),
        )
        for name, (near, far) in bands.items()
    )


def default_zones(camera: Camera, street: Street) -> tuple[tuple[str, tuple[Point, ...]], ...]:
    """Polygons of the near pavement and of the road, cut at the picture's sides."""
    zones = []
    for name, (low, high) in (("pavement", street.near_pavement), ("road", street.road)):
        corners = [(0.03, high), (0.97, high), (0.97, low), (0.03, low)]
        polygon = tuple(
            _relative(camera, np.array([_x_at(camera, z, column), 0.0, z])) for column, z in corners
        )
        zones.append((name, polygon))
    return tuple(zones)


def _look(settings: SceneSettings, hfov: float, height_m: float, yaw: float, pitch: float) -> Camera:
    sin_yaw, cos_yaw, sin_p, cos_p = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return Camera(
        width=settings.width,
        height=settings.height,
        # The lens covers the same angle across whatever the picture's size or shape.
        focal_px=settings.width / 2 / math.tan(hfov / 2),
        height_m=height_m,
        right=np.array([cos_yaw, 0.0, -sin_yaw]),
        up=np.array([sin_yaw * sin_p, cos_p, cos_yaw * sin_p]),
        forward=np.array([sin_yaw * cos_p, -sin_p, cos_yaw * cos_p]),
    )


def _x_at(camera: Camera, z: float, column: float) -> float:
    """x of the ground point at this z that is in this column (0..1) of the picture."""
    normal = camera.focal_px * camera.right - (column - 0.5) * camera.width * camera.forward
    return float((camera.height_m * normal[1] - z * normal[2]) / normal[0])


def _smallest_px(camera: Camera, z: float) -> float:
    """Height of a grown person at this z where he is furthest away, in pixels of a picture 640 wide."""
    ends = np.array([[x, 0.9, z] for x in camera.x_range(z, 0.0)])
    return float(camera.scale(ends).min()) * 1.72 * 640 / camera.width


def _bottom(camera: Camera, z: float, column: float) -> float:
    """How far down the picture (0..1) the ground is at this z in this column."""
    return float(camera.project(np.array([_x_at(camera, z, column), 0.0, z]))[1]) / camera.height


def _relative(camera: Camera, point: FloatArray) -> Point:
    x, y = camera.project(point)
    return round(float(x) / camera.width, 4), round(float(y) / camera.height, 4)
