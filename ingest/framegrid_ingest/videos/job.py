"""One uploaded video, from its first byte to its deletion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

UPLOAD = "upload"
RESULT_JSON = "result.json"
RESULT_CSV = "result.csv"
ANNOTATED = "annotated.mp4"
DEFAULT_FPS = 5.0
DEFAULT_MIN_SCORE = 0.4
RESULTS = (RESULT_JSON, RESULT_CSV, ANNOTATED)


class State(str, Enum):
    """Where a video is. The value is what people see."""

    UPLOADING = "uploading"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the sender asked for; handed to the analysing process as JSON."""

    name: str
    model: str = ""
    fps: float = DEFAULT_FPS
    min_score: float = DEFAULT_MIN_SCORE
    lines: Sequence[str] = ()
    zones: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(slots=True)
class Job:
    """Belongs to the event loop of the service."""

    id: str
    folder: Path
    wanted: Wanted
    state: State = State.UPLOADING
    progress: float = 0.0  # 0..1
    frames: int = 0
    seconds: float = 0.0  # of video, analysed so far
    error: str = ""
    size_bytes: int = 0  # on disk
    ended_s: float = field(default=0.0)  # monotonic

    def end(self, state: State, error: str = "") -> None:
        """Nothing more will happen to it, but its deletion."""
        self.state, self.error, self.ended_s = state, error, time.monotonic()
        self.size_bytes = sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def view(self, keep_s: float) -> dict[str, Any]:
        """What GET /videos/<id> answers."""
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.wanted.name,
            "state": self.state.value,
            "progress": round(self.progress, 4),
            "frames": self.frames,
            "seconds": round(self.seconds, 2),
        }
        if self.error:
            shown["error"] = self.error
        if self.ended_s:
            shown["expires_in_s"] = max(0, round(self.ended_s + keep_s - time.monotonic()))
        if self.state is State.DONE:
            shown["results"] = [
                f"/videos/{self.id}/{name}" for name in RESULTS if (self.folder / name).exists()
            ]
        return shown
