"""The JPEGs that cameras and people send: simulated streets, drawn once and kept."""

from __future__ import annotations

from collections.abc import Callable

from framegrid_sim.clip import SceneSettings
from framegrid_sim.clip_cache import load_clips
from framegrid_sim.settings import Light

_SECONDS, _FPS = 10.0, 10
_ASPECT = 9 / 16
# Evening pictures hold fewer details, so fewer bytes: the mean is that of a mixed day.
_LIGHTS: tuple[Light, ...] = ("day", "dusk")


def street_jpegs(width: int = 640, tell: Callable[[str], None] | None = None) -> list[bytes]:
    """200 pictures of `width` pixels, 16:9, as ingest would send them. Raises CacheError."""
    height = round(width * _ASPECT / 2) * 2
    settings = [
        SceneSettings(
            seed=seed, width=width, height=height, fps=_FPS, duration_s=_SECONDS, light=light, rain=False
        )
        for seed, light in enumerate(_LIGHTS, start=1)
    ]
    return [jpeg for clip in load_clips(settings, tell=tell) for jpeg in clip.jpegs]
