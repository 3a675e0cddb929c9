"""The simulated street: any frame of it and the truth of that frame, by number, in any order.

A scene is a function of its settings alone. Frame i of pass p shows what frame i of pass 0 shows, moved on by
nothing but the ids in the truth: the loop has no seam. Not safe to share between threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from framegrid_sim import people, vehicles
from framegrid_sim.actors import Actor, Pose, build_actors
from framegrid_sim.backdrop import build_lights, paint_backdrop
from framegrid_sim.camera import build_camera, default_lines, default_zones
from framegrid_sim.furniture import build_furniture
from framegrid_sim.settings import LineSpec, Point, SceneSettings
from framegrid_sim.shapes import SHIFT, Image, Shape, bounds, draw, fixed, stamp
from framegrid_sim.traffic import light_for
from framegrid_sim.truth import (
    MIN_SEEN_S,
    ClipTruth,
    CrossingTruth,
    FrameTruth,
    ObjectTruth,
    SeenTruth,
    find_crossings,
)
from framegrid_sim.weather import Glow, Weather

_DOWN = 1  # visible shares are counted in a picture 2**_DOWN times smaller
_SWAY_S = 1.0  # opposite crossings nearer in time than this are one sway


@dataclass(frozen=True)
class Placed:
    """An actor in one frame: where he is, what is drawn of him, and the unclipped box of that in pixels."""

    actor: Actor
    object_id: int
    x_m: float
    z_m: float
    shapes: list[Shape]
    box: tuple[float, float, float, float]


class Scene:
    """Frames and truth of one simulated street camera. Building it takes about 0.2 s at 640x360."""

    def __init__(self, settings: SceneSettings) -> None:
        self.settings = settings
        # One random stream for each concern: changing the traffic leaves the street as it is.
        streams = [np.random.default_rng((settings.seed, k)) for k in range(6)]
        self.camera, self.street = build_camera(settings, streams[0])
        self.traffic_light = light_for(settings.period_s, settings.stop_and_go)
        self._lights = build_lights(settings, self.street, streams[1])
        self._furniture = build_furniture(settings, self.camera, self.street, self._lights, streams[2])
        self._backdrop = paint_backdrop(settings, self.camera, self.street, self._lights, streams[3])
        self._weather = Weather(settings, streams[4])
        self.actors = build_actors(settings, self.camera, self.street, self.traffic_light, streams[5])
        self._dark = settings.light != "day"
        self._sunny = settings.light == "day" and not settings.rain
        self._shaded = (self._backdrop * (0.62 if self._sunny else 0.84)).astype(np.uint8)
        self._glow = Glow()
        self._people = {
            a.index: people.dress(a.look_seed, a.size_m[2], settings.rain)
            for a in self.actors
            if a.cls in ("person", "bicycle")
        }
        self._vehicles = {
            a.index: vehicles.build_vehicle(a.cls, a.look_seed, a.size_m, self._dark)
            for a in self.actors
            if a.cls not in ("person", "bicycle")
        }
        # Ids start at 0 although some in the picture at frame 0 started a pass or more before it.
        self._passes_before = 1 + max(
            (int(a.duration_s // settings.period_s) for a in self.actors), default=0
        )
        self.lines: tuple[LineSpec, ...] = settings.lines or default_lines(self.camera, self.street)
        self.zones: tuple[tuple[str, tuple[Point, ...]], ...] = default_zones(self.camera, self.street)

    def frame(self, frame_index: int) -> Image:
        """The picture (height, width, 3) uint8 BGR of a loop-aware frame number."""
        i = frame_index % self.settings.frame_count
        placed = self._placed(i)
        frame = self._backdrop.copy()
        self._draw_shadows(frame, placed)
        if self._dark:
            self._draw_beams(frame, placed)
        for item in self._painting_order(placed):
            if isinstance(item, Placed):
                draw(frame, item.shapes)
                if self._dark:
                    self._draw_lamps(frame, item)
            else:
                draw(frame, item)
        return self._weather.apply(frame, i)

    def truth(self, frame_index: int) -> FrameTruth:
        """What is in a loop-aware frame, exactly; objects with not one pixel in the picture are left out."""
        placed = self._placed(frame_index)
        return FrameTruth(frame_index, tuple(self._objects(placed)))

    def clip_truth(self) -> ClipTruth:
        """Truth of a whole pass. Takes about 2 ms a frame."""
        count, per_pass = self.settings.frame_count, max(1, len(self.actors))
        frames: list[FrameTruth] = []
        paths: dict[int, list[tuple[int, Point]]] = {}
        sights: dict[int, list[int]] = {}
        classes: dict[int, str] = {}
        for i in range(count):
            placed = self._placed(i)
            objects = self._objects(placed)
            frames.append(FrameTruth(i, tuple(objects)))
            # Every copy of an actor is brought to the pass-0 copy's time: together they are his whole way.
            for p in placed:
                passes, index = divmod(p.object_id, per_pass)
                at = i + (self._passes_before - passes) * count
                paths.setdefault(index, []).append((at, self._relative_anchor(p)))
                classes[index] = p.actor.cls
            for o in objects:
                passes, index = divmod(o.object_id, per_pass)
                if o.countable:
                    sights.setdefault(index, []).append(i + (self._passes_before - passes) * count)
        return ClipTruth(
            fps=self.settings.fps,
            frames=tuple(frames),
            lines=self.lines,
            zones=self.zones,
            crossings=self._crossings(paths, classes, per_pass),
            seen=self._seen(sights, classes, per_pass),
            ids_per_pass=per_pass,
        )

    def _placed(self, frame_index: int) -> list[Placed]:
        time_s = frame_index / self.settings.fps
        per_pass = max(1, len(self.actors))
        found = []
        for actor in self.actors:
            for age, start_pass in actor.ages(time_s, self.settings.period_s):
                pose = actor.pose(age)
                shapes = self._shapes(actor, pose)
                object_id = actor.index + (start_pass + self._passes_before) * per_pass
                found.append(Placed(actor, object_id, pose.x_m, pose.z_m, shapes, bounds(shapes)))
        return found

    def _shapes(self, actor: Actor, pose: Pose) -> list[Shape]:
        light = self._lights.at(pose.x_m, pose.z_m)
        if actor.cls == "person":
            return people.walking_shapes(self.camera, self._people[actor.index], pose, light)
        if actor.cls == "bicycle":
            return people.riding_shapes(self.camera, self._people[actor.index], pose, light)
        return vehicles.vehicle_shapes(self.camera, self._vehicles[actor.index], pose, light)

    def _painting_order(self, placed: list[Placed]) -> list[Placed | list[Shape]]:
        """Far to near: by the distance across the street, then along it."""
        items: list[tuple[float, float, int, Placed | list[Shape]]] = []
        for k, p in enumerate(placed):
            items.append((-p.z_m, -abs(p.x_m), k, p))
        for k, f in enumerate(self._furniture):
            items.append((-f.z_m, -abs(f.x_m), len(placed) + k, f.shapes))
        items.sort(key=lambda item: item[:3])
        return [item[3] for item in items]

    def _objects(self, placed: list[Placed]) -> list[ObjectTruth]:
        w, h = self.settings.width, self.settings.height
        # Which item each pixel shows: 0 the street and its furniture, k + 1 the k-th placed.
        owner = np.zeros((h >> _DOWN, w >> _DOWN), np.uint8)
        numbers = {id(p): k + 1 for k, p in enumerate(placed)}
        for item in self._painting_order(placed):
            if isinstance(item, Placed):
                stamp(owner, item.shapes, numbers[id(item)], down=_DOWN)
            else:
                stamp(owner, item, 0, down=_DOWN)
        seen = np.bincount(owner.ravel(), minlength=len(placed) + 1)
        objects = []
        for k, p in enumerate(placed):
            if seen[k + 1] == 0:
                continue
            x1, y1, x2, y2 = p.box
            own = _own_pixels(p)
            objects.append(
                ObjectTruth(
                    object_id=p.object_id,
                    cls=p.actor.cls,
                    box_xyxy=(max(x1, 0) / w, max(y1, 0) / h, min(x2, w) / w, min(y2, h) / h),
                    visible_share=round(min(1.0, float(seen[k + 1]) / own), 3),
                    height_px=round((y2 - y1) * 640 / w, 1),
                )
            )
        return objects

    def _relative_anchor(self, p: Placed) -> Point:
        return (p.box[0] + p.box[2]) / 2 / self.settings.width, p.box[3] / self.settings.height

    def _crossings(
        self, paths: dict[int, list[tuple[int, Point]]], classes: dict[int, str], per_pass: int
    ) -> tuple[CrossingTruth, ...]:
        count = self.settings.frame_count
        found = []
        for index, path in paths.items():
            path.sort()
            for line in self.lines:
                for at, direction in find_crossings(line, path, _SWAY_S * self.settings.fps):
                    passes = int(at // count)
                    # An actor's pass-0 copy crosses in pass `passes`: in pass 0 his copy started that much
                    # earlier.
                    object_id = index + (self._passes_before - passes) * per_pass
                    group = "person" if classes[index] == "person" else "vehicle"
                    found.append(
                        CrossingTruth(at - passes * count, line[0], group, direction, object_id)  # type: ignore[arg-type]
                    )
        return tuple(sorted(found, key=lambda c: (c.frame_index, c.line, c.object_id)))

    def _seen(
        self, sights: dict[int, list[int]], classes: dict[int, str], per_pass: int
    ) -> tuple[SeenTruth, ...]:
        count = self.settings.frame_count
        found = []
        for index, at in sights.items():
            if len(at) < MIN_SEEN_S * self.settings.fps:
                continue
            first, last = min(at), max(at)
            passes = first // count
            object_id = index + (self._passes_before - passes) * per_pass
            found.append(SeenTruth(object_id, classes[index], first - passes * count, last - passes * count))
        return tuple(sorted(found, key=lambda s: (s.first_frame, s.object_id)))

    def _draw_shadows(self, frame: Image, placed: list[Placed]) -> None:
        mask = np.zeros(frame.shape[:2], np.uint8)
        for p in placed:
            length, width, height = p.actor.size_m
            # The sun stands behind the camera to one side: shadows fall away from it, short.
            throw = 0.55 * height if self._sunny else 0.05
            half_l, half_w = (length / 2, width / 2) if p.actor.cls != "person" else (0.2, 0.15)
            far = half_w + throw * 0.4
            ground = [(-half_l, -half_w), (half_l, -half_w), (half_l + throw, far), (-half_l + throw, far)]
            corners = np.array([(p.x_m + dx, 0.0, p.z_m + dz) for dx, dz in ground])
            cv2.fillConvexPoly(mask, fixed(self.camera.project(corners)), 255, cv2.LINE_8, SHIFT)
        cv2.copyTo(self._shaded, mask, frame)

    def _draw_beams(self, frame: Image, placed: list[Placed]) -> None:
        for p in placed:
            if p.actor.cls in ("person", "bicycle"):
                continue
            ahead = np.array([p.x_m + p.actor.direction * (p.actor.size_m[0] / 2 + 3.2), 0.0, p.z_m])
            scale = float(self.camera.scale(ahead))
            strength = (46.0, 62.0, 66.0) if self.settings.light == "night" else (16.0, 22.0, 24.0)
            self._glow.add(frame, self.camera.project(ahead), 3.6 * scale, 0.8 * scale, strength)

    def _draw_lamps(self, frame: Image, p: Placed) -> None:
        if p.actor.cls in ("person",):
            return
        length, width, _ = p.actor.size_m
        bright = 0.7 if self.settings.light == "night" else 0.4
        bicycle = p.actor.cls == "bicycle"
        for end, tone in ((1, (120.0, 150.0, 160.0)), (-1, (20.0, 20.0, 140.0))):
            for side in (0.0,) if bicycle else (-0.36, 0.36):
                x = p.x_m + p.actor.direction * end * length / 2 * (0.7 if bicycle else 1.0)
                lamp = np.array([x, 0.85 if bicycle else 0.65, p.z_m + side * width])
                radius = float(self.camera.scale(lamp)) * (0.3 if bicycle else 0.55)
                b, g, r = (round(v * bright) for v in tone)
                self._glow.add(frame, self.camera.project(lamp), radius, radius, (b, g, r))


def _own_pixels(p: Placed) -> float:
    """Pixels the object would show if nothing hid it, in the smaller picture; at least one."""
    x1, y1, x2, y2 = (int(v) for v in p.box)
    x1, y1 = (x1 >> _DOWN << _DOWN) - 2, (y1 >> _DOWN << _DOWN) - 2
    alone = np.zeros((((y2 - y1) >> _DOWN) + 4, ((x2 - x1) >> _DOWN) + 4), np.uint8)
    stamp(alone, p.shapes, 1, (x1, y1), _DOWN)
    return float(max(1, cv2.countNonZero(alone)))
