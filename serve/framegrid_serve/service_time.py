"""How long an engine takes for a frame, from the batches that it ran.

A batch of b frames takes about a + c*b: an engine that gains by batches runs small ones while there is
little to do, and the time per frame of those would say that it is nearly full when it is not. So a line is
fitted to recent batches (least squares, older ones forgotten), and the time per frame is read from it for a
full batch: what matters is what a replica can do when it has to.
"""

from __future__ import annotations

# Share of a batch in the running sums, at least: about the last 64 batches count.
_WEIGHT = 1 / 64
# A batch that takes this many times what was expected counts as so much: a pause of the machine, or a
# picture of a new shape for which the engine compiles. A lasting change is followed within a few batches.
_OUTLIER = 4.0


class ServiceTime:
    """Of one network on one machine. Not thread-safe."""

    def __init__(self) -> None:
        self._batches = 0
        self._reset()

    @property
    def is_known(self) -> bool:
        """Any batch has run."""
        return self._batches > 0

    def add(self, frames: int, elapsed_s: float) -> None:
        """A batch of so many frames took so long on one stream."""
        self._batches += 1
        if self._batches == 2:  # the first is the slowest by far; it stands only until there is another
            self._reset()
        elif self._batches > 2:
            elapsed_s = min(elapsed_s, _OUTLIER * max(self.batch_s(frames), 1e-6))
        self._since_reset += 1
        weight = max(_WEIGHT, 1 / self._since_reset)
        self._frames += weight * (frames - self._frames)
        self._seconds += weight * (elapsed_s - self._seconds)
        self._frames_squared += weight * (frames * frames - self._frames_squared)
        self._frames_seconds += weight * (frames * elapsed_s - self._frames_seconds)

    def _reset(self) -> None:
        self._since_reset = 0
        self._frames = self._seconds = self._frames_squared = self._frames_seconds = 0.0  # running means

    def batch_s(self, frames: int) -> float:
        """Expected time of a batch of so many frames; 0 when nothing has run."""
        if not self._batches:
            return 0.0
        spread = self._frames_squared - self._frames**2
        per_frame_s = self._seconds / self._frames
        if spread < 0.01:  # all of one size: nothing tells the two apart
            return per_frame_s * frames
        slope_s = (self._frames_seconds - self._frames * self._seconds) / spread
        slope_s = min(per_frame_s, max(0.0, slope_s))  # neither part of the time is negative
        return self._seconds + slope_s * (frames - self._frames)

    def frame_s(self, max_batch: int) -> float:
        """Time per frame in full batches; 0 when nothing has run."""
        return self.batch_s(max_batch) / max_batch
