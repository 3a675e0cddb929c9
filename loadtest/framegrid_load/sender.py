"""The cameras: one process, one event loop, an open-loop schedule.

Every frame has the time at which it is due, fixed in advance; its latency is counted from there, whether the
sender, the network or serve was slow. Due frames wait for a connection as they wait in ingest for a request
slot, and are sent together when several wait. A frame older than its time is not sent, and counted.

`python -m framegrid_load.sender OPTIONS` is spoken to by `FleetProcess`, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvloop
from framegrid_serve.wire import (
    CONTENT_TYPE,
    DetectRequest,
    Frame,
    FrameStatus,
    WireError,
    decode_response,
    encode_request,
)

from framegrid_load.connection import Connection, Target
from framegrid_load.pictures import street_jpegs
from framegrid_load.schedule import Arrival, Schedule
from framegrid_load.tally import Outcome, Tally, rounded_ms

_FLUSH_S = 0.25
_SWEEP_S = 0.1
# After a frame's time is over serve says STALE; silence beyond this is a failure.
_SILENCE_S = 2.0
# As ingest does it: balancers choose a replica's pod per connection.
_CONNECTION_AGE_S = 60.0
_OUTCOMES = {FrameStatus.OK: Outcome.OK, FrameStatus.STALE: Outcome.STALE}


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What the cameras are. The defaults are ingest's: 10 frames a second, 1 s of time for each."""

    target: str
    fps: float = 10.0
    model: str = ""
    deadline_s: float = 1.0
    connections: int = 32  # as eight ingest pods have
    frames_per_request: int = 8
    width: int = 640
    seed: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(slots=True)
class _Batch:
    arrivals: list[Arrival]
    told: tuple[int, int] = (0, 0)  # offered and dropped frames that go with it
    sent_s: float = 0.0
    is_repeated: bool = False


class Sender:
    """See the module. For one event loop; `seconds` is relative to `epoch_s` (monotonic)."""

    def __init__(self, options: FleetOptions, jpegs: Sequence[bytes]) -> None:
        self._options = options
        self._target = Target.parse(options.target)
        self._jpegs = jpegs
        self._schedule = Schedule(options.fps, options.seed)
        self._random = random.Random(options.seed)
        self._waiting: deque[Arrival] = deque()
        self._idle: list[Connection] = []
        self._under_way: dict[Connection, _Batch] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._offered = self._dropped = 0
        self._tallies: dict[int, Tally] = {}
        self._errors: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.epoch_s = time.monotonic()

    @property
    def cameras(self) -> int:
        return self._schedule.cameras

    @property
    def in_flight(self) -> int:
        """Requests under way, those included whose connection is being opened."""
        return len(self._under_way) + len(self._opening)

    @property
    def is_done(self) -> bool:
        """Every frame due so far has an outcome."""
        return not self._waiting and not self.in_flight

    def set_cameras(self, count: int) -> None:
        """From now on so many cameras."""
        self._schedule.set_cameras(count, time.monotonic())
        self._tick()

    def take(self) -> tuple[dict[int, Tally], Counter[str]]:
        """Tallies by second, and errors by kind, since the last call."""
        taken = self._tallies, self._errors
        self._tallies, self._errors = {}, Counter()
        return taken

    def sweep(self) -> None:
        """Give up frames and requests whose time is over; call it every now and then."""
        now_s = time.monotonic()
        self._expire(now_s)
        silent_s = self._options.deadline_s + _SILENCE_S
        for connection, batch in list(self._under_way.items()):
            if now_s - batch.sent_s > silent_s:
                connection.close("no answer")

    def close(self) -> None:
        """Drop what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in [*self._under_way, *self._idle]:
            connection.close("stopped")
        for task in self._opening:
            task.cancel()

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now_s = time.monotonic()
        for arrival in self._schedule.due(now_s):
            self._at(arrival).lag_ms[rounded_ms(now_s - arrival.due_s)] += 1
            self._offered += 1
            self._waiting.append(arrival)
        self._dispatch(now_s)
        next_s = self._schedule.next_due_s
        self._timer = None
        if next_s is not None:
            # The loop's timers have milliseconds; frames of the same one go out together.
            wait_s = max(0.001, next_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _dispatch(self, now_s: float) -> None:
        self._expire(now_s)
        while self._waiting and (free := self._options.connections - self.in_flight) > 0:
            size = min(self._options.frames_per_request, -(-len(self._waiting) // free))
            batch = _Batch([self._waiting.popleft() for _ in range(size)])
            connection = self._usable(now_s)
            if connection is not None:
                self._send(connection, batch)
                continue
            self._send_anew(batch)

    def _expire(self, now_s: float) -> None:
        while self._waiting and now_s - self._waiting[0].due_s > self._options.deadline_s:
            self._settle(self._waiting.popleft(), Outcome.UNSENT, now_s)

    def _usable(self, now_s: float) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now_s < connection.retire_at_s:
                return connection
            connection.close()
        return None

    def _send_anew(self, batch: _Batch) -> None:
        """Over a connection of its own."""
        task = asyncio.get_running_loop().create_task(self._open_for(batch))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_for(self, batch: _Batch) -> None:
        try:
            connection = await Connection.open(self._target, self._forget, self._options.deadline_s)
        except (OSError, asyncio.TimeoutError) as error:
            self._break(batch, f"cannot connect: {type(error).__name__}")
            return
        age_s = _CONNECTION_AGE_S * (0.75 + 0.5 * self._random.random())
        connection.retire_at_s = time.monotonic() + age_s
        self._send(connection, batch)

    def _send(self, connection: Connection, batch: _Batch) -> None:
        now_s = time.monotonic()
        left_s = self._options.deadline_s - (now_s - batch.arrivals[0].due_s)
        batch.told, batch.sent_s = (self._offered, self._dropped), now_s
        self._offered = self._dropped = 0
        frames = tuple(
            Frame(f"load-{camera}", seq, self._jpegs[(camera * 37 + seq) % len(self._jpegs)])
            for _, camera, seq in batch.arrivals
        )
        request = DetectRequest(
            frames,
            self._options.model,
            timeout_ms=max(1, int(left_s * 1e3)),
            offered_frames=batch.told[0],
            dropped_frames=batch.told[1],
        )
        body = encode_request(request)
        self._under_way[connection] = batch
        connection.send(
            self._target.head("/v1/detect", CONTENT_TYPE, len(body)),
            body,
            lambda status, answer: self._answered(connection, status, answer),
            lambda reason, may_repeat: self._lost(connection, reason, may_repeat),
        )

    def _answered(self, connection: Connection, status: int, answer: bytes) -> None:
        batch = self._under_way.pop(connection)
        if connection.is_open:
            self._idle.append(connection)
        now_s = time.monotonic()
        if status != 200:
            self._give_back(batch)
            self._errors[f"HTTP {status}"] += 1
            outcome = Outcome.REFUSED if status == 429 else Outcome.BROKEN
            for arrival in batch.arrivals:
                self._settle(arrival, outcome, now_s)
        else:
            self._read(batch, answer, now_s)
        self._dispatch(now_s)

    def _read(self, batch: _Batch, answer: bytes, now_s: float) -> None:
        try:
            results = decode_response(answer).results
            if len(results) != len(batch.arrivals):
                raise WireError(f"expected {len(batch.arrivals)} results, got {len(results)}")
        except WireError:
            self._break(batch, "not the wire format")
            return
        for arrival, result in zip(batch.arrivals, results, strict=True):
            self._settle(arrival, _OUTCOMES.get(result.status, Outcome.FAILED), now_s)

    def _lost(self, connection: Connection, reason: str, may_repeat: bool) -> None:
        batch = self._under_way.pop(connection)
        if may_repeat and not batch.is_repeated:
            self._give_back(batch)
            self._send_anew(_Batch(batch.arrivals, is_repeated=True))
            return
        self._break(batch, reason)

    def _break(self, batch: _Batch, reason: str) -> None:
        self._give_back(batch)
        self._errors[reason] += 1
        now_s = time.monotonic()
        for arrival in batch.arrivals:
            self._settle(arrival, Outcome.BROKEN, now_s)

    def _give_back(self, batch: _Batch) -> None:
        """Serve did not acknowledge what it was told about the load: tell it again."""
        self._offered += batch.told[0]
        self._dropped += batch.told[1]
        batch.told = (0, 0)

    def _settle(self, arrival: Arrival, outcome: Outcome, now_s: float) -> None:
        if outcome is not Outcome.OK:  # stale ones too: serve takes the sender's word for all that is lost
            self._dropped += 1
        self._at(arrival).count(outcome, now_s - arrival.due_s)

    def _at(self, arrival: Arrival) -> Tally:
        return self._tallies.setdefault(int(arrival.due_s - self.epoch_s), Tally())

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


async def serve_commands(options: FleetOptions) -> None:
    """Obey lines on stdin, tell tallies on stdout, until told to stop (or stdin ends)."""
    sender = Sender(options, street_jpegs(options.width))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end_at_once)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    _say(event="ready", unix_s=time.time() - (time.monotonic() - sender.epoch_s))
    telling = loop.create_task(_tell_forever(sender))
    while (line := await commands.readline()) and (count := json.loads(line)["cameras"]) >= 0:
        sender.set_cameras(count)
        _say(event="cameras", cameras=count, at_s=time.monotonic() - sender.epoch_s)
    sender.set_cameras(0)
    for _ in range(math.ceil((options.deadline_s + _SILENCE_S) / _SWEEP_S)):
        if sender.is_done:
            break
        await asyncio.sleep(_SWEEP_S)
    telling.cancel()
    sender.close()
    await asyncio.sleep(0)
    _tell(sender)
    _say(event="end")


def _end_at_once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A mistake of ours would otherwise look like a loss of serve's."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


async def _tell_forever(sender: Sender) -> None:
    next_s = time.monotonic()
    while True:
        await asyncio.sleep(_SWEEP_S)
        sender.sweep()
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _FLUSH_S
            _tell(sender)


def _tell(sender: Sender) -> None:
    tallies, errors = sender.take()
    seconds = {second: tally.to_json() for second, tally in tallies.items()}
    _say(event="tallies", cameras=sender.cameras, seconds=seconds, errors=errors, cpu_s=time.process_time())


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    uvloop.run(serve_commands(FleetOptions(**json.loads(sys.argv[1]))))
