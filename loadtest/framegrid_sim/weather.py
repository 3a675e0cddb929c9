"""Rain, the sensor's noise and the glow of lamps: textures made once, laid over frames at places picked by
number."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from framegrid_sim.settings import SceneSettings
from framegrid_sim.shapes import Image

_MARGIN = 64  # pixels that a texture is larger than the picture, so that it can be shifted


class Weather:
    """What lies between the street and the pixels. Deterministic by seed and frame number."""

    def __init__(self, settings: SceneSettings, rng: np.random.Generator) -> None:
        self._settings = settings
        h, w = settings.height + _MARGIN, settings.width + _MARGIN
        self._brighter: list[Image] = []
        self._darker: list[Image] = []
        if settings.noise > 0:
            for _ in range(2):
                noise = rng.normal(0, settings.noise, (h, w, 1)) + rng.normal(
                    0, settings.noise * 0.6, (h, w, 3)
                )
                self._brighter.append(np.clip(noise, 0, 255).astype(np.uint8))
                self._darker.append(np.clip(-noise, 0, 255).astype(np.uint8))
        self._rain = [_rain_texture(settings, h * 2, w, rng) for _ in range(2)] if settings.rain else []
        self._haze = rng.uniform(0.05, 0.14) if settings.rain else 0.0
        self._blur = rng.random() < 0.35  # a lens that is not quite sharp
        self._gain = float(rng.uniform(0.9, 1.1))
        self._seed = int(rng.integers(2**31))

    def apply(self, frame: Image, frame_index: int) -> Image:
        """The frame as the sensor sees it; may reuse the given array."""
        place = np.random.default_rng((self._seed, frame_index)).integers(0, _MARGIN, 8)
        h, w = frame.shape[:2]
        for k, texture in enumerate(self._rain):
            # Streaks fall: the texture is twice as tall as the picture and moves down by a good part of it a
            # frame.
            top = int(
                texture.shape[0]
                - h
                - (frame_index * (0.37 + 0.1 * k) * h + place[k]) % (texture.shape[0] - h)
            )
            left = int(place[k + 2])
            cv2.add(frame, texture[top : top + h, left : left + w], dst=frame)
        if self._blur:
            frame = cv2.GaussianBlur(frame, (3, 3), 0.7)
        if self._haze or self._gain != 1.0:
            level = 150 if self._settings.light == "day" else 60
            frame = cv2.convertScaleAbs(frame, alpha=self._gain * (1 - self._haze), beta=self._haze * level)
        if self._brighter:
            k = int(place[4]) % 2
            top, left = int(place[5]), int(place[6])
            cv2.add(frame, self._brighter[k][top : top + h, left : left + w], dst=frame)
            cv2.subtract(frame, self._darker[k][top : top + h, left : left + w], dst=frame)
        return frame


class Glow:
    """Soft light of head lamps, rear lamps and their beams on the ground, added to the frame."""

    def __init__(self) -> None:
        size = 65
        axis = np.linspace(-1, 1, size)
        radius = np.hypot(axis[None, :], axis[:, None])
        self._disc = (np.clip(1 - radius, 0, 1) ** 2)[..., None].astype(np.float32)
        self._cache: dict[tuple[int, int, tuple[float, float, float]], Image] = {}

    def add(
        self, frame: Image, centre: NDArray[np.float64], radius_x: float, radius_y: float,
        colour: tuple[float, float, float],
    ) -> None:  # fmt: skip
        """Add a disc of light around a pixel; radii in pixels, colour BGR at the middle."""
        rx, ry = max(2, round(radius_x)), max(2, round(radius_y))
        key = (rx, ry, colour)
        sprite = self._cache.get(key)
        if sprite is None:
            if len(self._cache) > 500:
                self._cache.clear()
            light = cv2.resize(self._disc, (2 * rx + 1, 2 * ry + 1)).reshape(2 * ry + 1, 2 * rx + 1, 1)
            sprite = (light * np.array(colour, np.float32)).astype(np.uint8)
            self._cache[key] = sprite
        x, y = round(float(centre[0])) - rx, round(float(centre[1])) - ry
        h, w = frame.shape[:2]
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + 2 * rx + 1, w), min(y + 2 * ry + 1, h)
        if x1 >= x2 or y1 >= y2:
            return
        part = frame[y1:y2, x1:x2]
        part[...] = cv2.add(part, sprite[y1 - y : y2 - y, x1 - x : x2 - x])


def _rain_texture(settings: SceneSettings, height: int, width: int, rng: np.random.Generator) -> Image:
    texture = np.zeros((height, width), np.uint8)
    slant = rng.uniform(-0.25, 0.25)
    for _ in range(int(height * width / 2600)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        length = rng.uniform(8, 26) * settings.height / 360
        end = (round(x + slant * length), round(y + length))
        cv2.line(texture, (round(x), round(y)), end, int(rng.uniform(14, 60)), 1, cv2.LINE_AA)
    texture = cv2.GaussianBlur(texture, (3, 3), 0.6)
    result: Image = cv2.cvtColor(texture, cv2.COLOR_GRAY2BGR)
    return result
