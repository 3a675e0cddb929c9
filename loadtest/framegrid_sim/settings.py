"""What a simulated clip shows: one frozen value, from which every pixel and every truth follows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Light = Literal["day", "dusk", "night"]
Point = tuple[float, float]
LineSpec = tuple[str, Point, Point]  # name, start, end; relative to the picture

LIGHTS: tuple[str, ...] = get_args(Light)


@dataclass(frozen=True)
class SceneSettings:
    """The street, its weather and its traffic. Two equal settings give the same pixels and the same truth.

    `seed` picks the camera (height, angle, lens), the buildings, the lanes and everybody in the street.
    `lines` empty means the two default lines of the scene, `pavement` and `road`.
    Raises ValueError with the field's name for a value out of range.
    """

    seed: int = 0
    width: int = 640  # pixels
    height: int = 360  # pixels
    fps: float = 10.0
    duration_s: float = 60.0  # the clip loops after this long, without a jump
    light: Light = "day"
    rain: bool = False
    noise: float = 3.0  # standard deviation of the sensor's noise, in grey levels of 255
    persons_per_minute: float = 24.0
    vehicles_per_minute: float = 18.0
    bicycle_share: float = 0.18  # of the vehicles
    group_share: float = 0.4  # of the persons who walk in a group of 2 to 4
    stop_and_go: bool = True  # a traffic light: vehicles queue and start again
    pauses: float = 0.1  # share of the persons (groups) who stand still for a while
    lines: tuple[LineSpec, ...] = ()

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "width": (160, 3840),
            "height": (90, 2160),
            "fps": (0.5, 60),
            "duration_s": (5, 3600),
            "noise": (0, 40),
            "persons_per_minute": (0, 240),
            "vehicles_per_minute": (0, 120),
            "bicycle_share": (0, 1),
            "group_share": (0, 1),
            "pauses": (0, 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"expected {name} from {low:g} to {high:g}, got {value!r}")
        if self.light not in LIGHTS:
            raise ValueError(f"expected light to be one of {', '.join(LIGHTS)}, got {self.light!r}")

    @property
    def frame_count(self) -> int:
        """Frames in one pass of the loop; at least one."""
        return max(1, round(self.duration_s * self.fps))

    @property
    def period_s(self) -> float:
        """Length of one pass: whole frames, so it may differ from `duration_s` by half a frame."""
        return self.frame_count / self.fps

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SceneSettings:
        """Inverse of `to_json`. Raises ValueError for a key that is no setting."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"expected scene settings among {sorted(known)}, got {unknown}; remove them")
        values = dict(data)
        values["lines"] = tuple((n, (s[0], s[1]), (e[0], e[1])) for n, s, e in values.get("lines", ()))
        return cls(**values)
