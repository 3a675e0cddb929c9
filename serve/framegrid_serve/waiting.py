"""The frames that wait for an engine, and whose turn it is. No threads, no clock: the batcher has both.

* Cameras take turns: a frame waits for at most one frame of each other camera, however many one has sent.
* Higher priority goes first, but every fourth turn is for the next lower one, down to 0: pictures that
  people send go before cameras' frames without stopping them. Below 0 (videos, shadow runs) there is no
  such turn: that work takes what is left over.
* When all places are taken, the camera that has the most frames waiting gives up its oldest for one that
  has fewer; so a camera that floods loses its own frames alone.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

# Of so many turns one is for the next lower live priority, when frames wait there.
_TURNS = 4


class Waits(Protocol):
    """A waiting frame. Frames of one batch have the same detector."""

    camera: str
    detector: Any
    priority: int


J = TypeVar("J", bound=Waits)


class WaitingFrames(Generic[J]):
    """See the module. Counts and turns are exact; nothing is dropped but by `make_room`."""

    def __init__(self) -> None:
        # priority -> (camera, detector) in order of turns -> frames, oldest first
        self._levels: dict[int, OrderedDict[tuple[str, Any], deque[J]]] = {}
        self._count = 0
        self._turns = 0  # since a lower live priority had one

    def __len__(self) -> int:
        return self._count

    def add(self, job: J) -> None:
        """To the end of its camera's line."""
        level = self._levels.setdefault(job.priority, OrderedDict())
        level.setdefault((job.camera, job.detector), deque()).append(job)
        self._count += 1

    def clear(self) -> list[J]:
        """All of them, and none waits any more."""
        found = [job for level in self._levels.values() for line in level.values() for job in line]
        self._levels.clear()
        self._count = 0
        return found

    def ahead_of(self, camera: str, priority: int) -> int:
        """How many frames go before the next one of this camera, at most."""
        own = sum(len(line) for (name, _), line in self._levels.get(priority, {}).items() if name == camera)
        found = own
        for level_priority, level in self._levels.items():
            if level_priority < priority:
                continue
            for (name, _), line in level.items():
                if level_priority > priority:
                    found += len(line)
                elif name != camera:
                    found += min(len(line), own + 1)
        return found

    def take(self, usable: Callable[[J], bool]) -> list[J]:
        """The next batch: frames for one detector, at most its `max_batch`, in the order of their turns.

        `usable` is asked once for each frame whose turn it is; the frame leaves the queue either way.
        """
        batch: list[J] = []
        for priority in self._order():
            level = self._levels[priority]
            while self._round(level, usable, batch):
                pass
            if not level:
                del self._levels[priority]
            if batch and len(batch) >= batch[0].detector.max_batch:
                break
        return batch

    def make_room(self, cameras: Sequence[str], priority: int, frames: int) -> list[J]:
        """So many frames that leave for a newcomer's; none when it has no claim to all those places.

        Work below priority 0 gives way to live work; else only who has fewer frames has a claim.
        """
        lengths = {
            (level_priority, key): len(line)
            for level_priority, level in self._levels.items()
            if level_priority == priority or level_priority < 0 <= priority
            for key, line in level.items()
        }
        own = Counter(cameras)
        for (_, (name, _)), length in lengths.items():
            if name in own:
                own[name] += length
        most = max(own.values())
        leaving: list[tuple[int, tuple[str, Any]]] = []
        for _ in range(frames):
            longest = max(lengths, key=lambda line: (line[0] < priority, lengths[line]), default=None)
            if longest is None or (longest[0] == priority and lengths[longest] <= most):
                return []
            leaving.append(longest)
            lengths[longest] -= 1
            if not lengths[longest]:
                del lengths[longest]
        found = [self._pop(self._levels[line[0]], line[1]) for line in leaving]
        self._levels = {level_priority: level for level_priority, level in self._levels.items() if level}
        return found

    def _order(self) -> list[int]:
        order = sorted(self._levels, reverse=True)
        if len(order) < 2 or order[1] < 0:
            self._turns = 0
            return order
        self._turns += 1
        if self._turns < _TURNS:
            return order
        self._turns = 0
        return [order[1], order[0], *order[2:]]

    def _round(
        self, level: OrderedDict[tuple[str, Any], deque[J]], usable: Callable[[J], bool], batch: list[J]
    ) -> bool:
        """One frame of each camera, as far as the batch has room. False when there was none to take."""
        taken = False
        for key in list(level):
            if batch and len(batch) >= batch[0].detector.max_batch:
                return False
            if batch and key[1] is not batch[0].detector:
                continue
            job = self._pop(level, key)
            taken = True
            if usable(job):
                batch.append(job)
        return taken

    def _pop(self, level: OrderedDict[tuple[str, Any], deque[J]], key: tuple[str, Any]) -> J:
        """The oldest frame of a camera, which goes to the end of the turns."""
        line = level[key]
        job = line.popleft()
        self._count -= 1
        if line:
            level.move_to_end(key)
        else:
            del level[key]
        return job
