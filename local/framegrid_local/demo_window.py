"""The window of time in which the demo's counts are held against the simulator's truth."""

from __future__ import annotations

import threading
import time
from typing import Any

from framegrid_local import health
from framegrid_local.chain import Chain
from framegrid_local.errors import LocalError, StopRequestedError
from framegrid_local.figures import CameraFigures, camera_figures
from framegrid_local.verdict import Cell

# A track is confirmed after some frames; whoever is in the picture then has one after this long.
WARM_UP_S = 2.0
# Behind the clock, the live truth waits for what is still on its way to be counted.
LIVE_LAG_S = 1.5
POLL_S = 0.1


class CountingWindow:
    """The window in which the demo's counts are held against the truth."""

    def __init__(self, chain: Chain, sim_port: int, names: list[str]) -> None:
        self._chain = chain
        self._sim_port = sim_port
        self._names = names
        self._before: dict[str, CameraFigures] = {}
        self.first_frames_s = 0.0  # when every camera had a frame processed
        self.from_s = 0.0

    def wait_frames(self, timeout_s: float, cancel: threading.Event) -> None:
        """Returns when a frame of every camera has been processed.

        Raises LocalError when one has no frame in time, StopRequestedError when `cancel` is set meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            figures = camera_figures(self._chain.status())
            if all(name in figures and figures[name].processed > 0 for name in self._names):
                break
            if time.monotonic() > deadline:
                late = [name for name in self._names if name not in figures or not figures[name].processed]
                said = "; ".join(figures[name].message for name in late if name in figures)
                raise LocalError(f"no frame of {', '.join(late)} was processed in {timeout_s:.0f} s: {said}")
            if cancel.wait(POLL_S):
                raise StopRequestedError("stopped while starting")
        self.first_frames_s = time.time()

    def begin(self, cancel: threading.Event) -> None:
        """Begins to count when tracks are warm."""
        cancel.wait(max(0.0, self.first_frames_s + WARM_UP_S - time.time()))
        self.from_s = time.time()
        self._before = camera_figures(self._chain.status())

    def look(self) -> list[CameraFigures]:
        """Every camera now, its crossings since the window began, and the truth."""
        now = camera_figures(self._chain.status())
        shown = []
        for name in self._names:
            if name not in now:
                continue
            truth = self._truth(name, max(self.from_s, time.time() - LIVE_LAG_S))
            shown.append(now[name].since(self._before.get(name)).with_truth(truth))
        return shown

    def truth_until(self, to_s: float) -> dict[Cell, int]:
        """The true crossings of the window. Raises LocalError when the simulator does not answer."""
        cells: dict[Cell, int] = {}
        for name in self._names:
            answer = self._truth(name, to_s)
            if answer is None:
                raise LocalError(f"the simulator does not tell the truth of camera {name}")
            for line, groups in answer["crossed"].items():
                for group, directions in groups.items():
                    for direction, count in directions.items():
                        cells[Cell(name, line, group, direction)] = int(count)
        return cells

    def _truth(self, name: str, to_s: float) -> dict[str, Any] | None:
        path = f"/cameras/{name}/truth?from={self.from_s:.6f}&to={to_s:.6f}"
        answer = health.get_json(self._sim_port, path)
        return answer if isinstance(answer, dict) else None
