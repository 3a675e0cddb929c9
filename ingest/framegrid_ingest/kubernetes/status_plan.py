"""What a Camera's status says, and when it is written. Pure.

A change that a person would act on (state, message, owner, …) is written soon; frame rate and last frame
change all the time and are refreshed now and then. Bounded: per camera, per process, and for the refreshes of
the whole installation, so that the API server never notices how many frames there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from framegrid_ingest.sampler import phase_of

# Between two writes for one camera.
WAIT_S = 3.0
REFRESH_S = 30.0
# All processes together refresh about so many cameras a second at most: every watcher gets each of them.
# Spread, so that cameras that started together are not refreshed together.
REFRESHES_PER_S = 50.0
# One process writes at most this often, whatever happens to its cameras.
WRITES_PER_S = 5.0
_BURST = 10.0
MAX_MESSAGE_CHARS = 1024


class CameraStatus(NamedTuple):
    """One camera's status. `last_frame_s` is unix seconds, None before the first frame."""

    state: str
    source_kind: str
    message: str
    owner: str
    generation: int
    fps: float = 0.0
    last_frame_s: float | None = None

    @property
    def news(self) -> tuple[object, ...]:
        """The part that is written soon."""
        return self[:5]

    def patch(self) -> dict[str, Any]:
        """A merge patch for the status subresource."""
        frame_time = None
        if self.last_frame_s is not None:
            at = datetime.fromtimestamp(self.last_frame_s, timezone.utc)
            frame_time = at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "status": {
                "state": self.state,
                "sourceKind": self.source_kind,
                "message": self.message[:MAX_MESSAGE_CHARS],
                "owner": self.owner,
                "observedGeneration": self.generation,
                "fps": round(self.fps, 1),
                "lastFrameTime": frame_time,
            }
        }


class StatusPlan:
    """What one process has written, and what is due. `now_s` is any steady clock."""

    def __init__(self, refresh_s: float = REFRESH_S) -> None:
        self._refresh_s = refresh_s
        self._written: dict[str, tuple[CameraStatus, float]] = {}
        self._tokens = _BURST
        self._refilled_s: float | None = None

    def due(self, wanted: Mapping[str, CameraStatus], cameras_total: int, now_s: float) -> list[str]:
        """Names to write now, news first, at most as many as the process may write."""
        self._refill(now_s)
        refresh_s = max(self._refresh_s, cameras_total / REFRESHES_PER_S)
        news: list[tuple[float, str]] = []
        refreshes: list[tuple[float, str]] = []
        for name, status in wanted.items():
            before = self._written.get(name)
            if before is None:
                news.append((0.0, name))
            elif before[0].news != status.news:
                if now_s - before[1] >= WAIT_S:
                    news.append((before[1], name))
            elif before[0] != status and now_s - before[1] >= refresh_s * (0.75 + 0.5 * phase_of(name)):
                refreshes.append((before[1], name))
        return [name for _, name in (*sorted(news), *sorted(refreshes))][: int(self._tokens)]

    def tried(self, name: str, status: CameraStatus, now_s: float, *, is_written: bool) -> None:
        """A write was tried. One that failed is news again after the same wait."""
        self._tokens -= 1.0
        kept = status if is_written else status._replace(state="")
        self._written[name] = (kept, now_s)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other cameras: somebody else writes for them now."""
        wanted = set(names)
        self._written = {name: entry for name, entry in self._written.items() if name in wanted}

    def _refill(self, now_s: float) -> None:
        if self._refilled_s is not None:
            self._tokens = min(_BURST, self._tokens + (now_s - self._refilled_s) * WRITES_PER_S)
        self._refilled_s = now_s
