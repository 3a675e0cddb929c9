"""Keeps the parts of the chain running: starts them, restarts what crashes, stops all.

One keeper thread per service. The first start must succeed (`wait_ready` raises with the last lines of the
log); after that a crash is answered with a restart, each later than the one before. Services stop in the
order given, so that what writes is stopped before what it writes to.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from framegrid_local.errors import ChildFailedError, LocalError, StopRequestedError
from framegrid_local.process import Command, GuardedProcess

logger = logging.getLogger(__name__)

READY_POLL_S = 0.1
WATCH_POLL_S = 0.2
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
HEALTHY_AFTER_S = 60.0  # a service that ran this long starts its backoff anew
TAIL_LINES = 15


class EventKind(Enum):
    """What happened to a service."""

    STARTING = "starting"
    READY = "ready"
    CRASHED = "crashed"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """One change, for the user to read."""

    service: str
    kind: EventKind
    message: str = ""


class Service(Protocol):
    """Something that can be started, watched and stopped. EmbeddedPostgres is one."""

    def start(self) -> None:
        """Blocks until it is ready; raises LocalError when it cannot be."""

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""

    def stop(self) -> None:
        """Ends it for good; safe to call when it does not run, and from another thread than start()."""


@dataclass(slots=True)
class ProcessService:
    """A command that is ready when `is_ready` says so."""

    name: str
    command: Command
    is_ready: Callable[[], bool]
    ready_timeout_s: float = 60.0
    _process: GuardedProcess | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Raises ChildFailedError when it ends early or is not ready in time."""
        self._process = GuardedProcess(self.command)
        deadline = time.monotonic() + self.ready_timeout_s
        while not self._cancelled.wait(READY_POLL_S):
            status = self._process.poll()
            if status is not None:
                raise self._failure(f"ended with status {status} before it was ready")
            if self.is_ready():
                return
            if time.monotonic() > deadline:
                self._process.stop()
                raise self._failure(f"was not ready after {self.ready_timeout_s:.0f} s")
        raise LocalError(f"{self.name} was stopped while it started")

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll() if self._process is not None else 0

    def stop(self) -> None:
        """Asks, waits for the grace period, kills."""
        self._cancelled.set()
        if self._process is not None:
            self._process.stop()

    def _failure(self, what: str) -> ChildFailedError:
        return ChildFailedError(f"{self.name} {what}; its log: {self.command.log_path}", self.log_tail())

    def send_signal(self, number: int) -> None:
        """Passes a signal on to the command; nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(number)

    def log_tail(self) -> str:
        """The last lines that this run wrote."""
        return tail(self._process.log_since_start()) if self._process is not None else ""


class Supervisor:
    """Runs services side by side. `on_event` is called from the keepers' threads: it must be quick."""

    def __init__(self, on_event: Callable[[Event], None], cancel: threading.Event | None = None) -> None:
        self._on_event = on_event
        self._cancel = cancel or threading.Event()
        self._settled = threading.Condition()
        self._keepers: dict[str, _Keeper] = {}
        self._past_restarts: dict[str, int] = {}

    def start(self, name: str, service: Service) -> None:
        """Begins to start it; returns at once."""
        keeper = _Keeper(name, service, self._on_event, self._settled)
        self._keepers[name] = keeper
        keeper.thread.start()

    def wait_ready(self, *names: str) -> None:
        """Until all of them were ready once.

        Raises the LocalError of the first that cannot be, StopRequestedError when `cancel` is set meanwhile.
        """
        keepers = [self._keepers[name] for name in names]

        def is_decided() -> bool:
            return all(k.settled for k in keepers) or any(k.settled and not k.was_ready for k in keepers)

        with self._settled:
            while not self._settled.wait_for(is_decided, timeout=READY_POLL_S):
                if self._cancel.is_set():
                    raise StopRequestedError("stopped while starting")
        for keeper in keepers:
            if keeper.error is not None:
                raise keeper.error
        for keeper in keepers:
            if not keeper.was_ready:
                raise LocalError(f"{keeper.name} was stopped while it started")

    def is_ready(self, name: str) -> bool:
        """Whether it runs now."""
        return self._keepers[name].ready

    def restarts(self) -> dict[str, int]:
        """How often each service was started again."""
        return {**self._past_restarts, **{name: keeper.restarts for name, keeper in self._keepers.items()}}

    def stop_one(self, name: str) -> None:
        """Stops one service for good; the others go on. Nothing when it is not there."""
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            keeper.stop()
            self._past_restarts[name] = keeper.restarts

    def stop(self, order: Sequence[str] = ()) -> None:
        """Stops those in `order` one after another, then the rest together. Nothing runs afterwards."""
        ordered = [name for name in order if name in self._keepers]
        for name in ordered:
            self._keepers[name].stop()
        rest = [keeper for name, keeper in self._keepers.items() if name not in ordered]
        threads = [threading.Thread(target=keeper.stop, name=f"stop-{keeper.name}") for keeper in rest]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._keepers.clear()


class _Keeper:
    def __init__(
        self, name: str, service: Service, on_event: Callable[[Event], None], changed: threading.Condition
    ) -> None:
        self.name = name
        self.settled = False
        self._changed = changed
        self.error: LocalError | None = None
        self.ready = False
        self.was_ready = False
        self.restarts = 0
        self.thread = threading.Thread(target=self._run, name=f"keep-{name}", daemon=True)
        self._service = service
        self._on_event = on_event
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self._service.stop()
        self.thread.join()
        self._service.stop()  # when the keeper was between the look at the flag and the spawn
        self.ready = False
        self._on_event(Event(self.name, EventKind.STOPPED))

    def _run(self) -> None:
        if not self._start_first():
            return
        failures = 0
        while not self._stopping.is_set():
            ready_at = time.monotonic()
            status = self._watch()
            if status is None:
                return
            failures = 1 if time.monotonic() - ready_at > HEALTHY_AFTER_S else failures + 1
            self._on_event(Event(self.name, EventKind.CRASHED, f"ended with status {status}"))
            while not self._restart(failures):
                if self._stopping.is_set():
                    return
                failures += 1

    def _start_first(self) -> bool:
        self._on_event(Event(self.name, EventKind.STARTING))
        try:
            self._service.start()
        except LocalError as error:
            if not self._stopping.is_set():
                self.error = error
                self._on_event(Event(self.name, EventKind.FAILED, str(error)))
            self._service.stop()
        else:
            if not self._stopping.is_set():
                self.ready = self.was_ready = True
                self._on_event(Event(self.name, EventKind.READY))
        finally:
            with self._changed:
                self.settled = True
                self._changed.notify_all()
        return self.ready

    def _watch(self) -> int | None:
        """Exit status when it ends; None when we are told to stop."""
        while not self._stopping.wait(WATCH_POLL_S):
            status = self._service.poll()
            if status is not None:
                self.ready = False
                return status
        return None

    def _restart(self, failures: int) -> bool:
        wait_s = backoff_s(failures)
        message = f"starting again in {wait_s:.1f} s (attempt {failures})"
        self._on_event(Event(self.name, EventKind.RESTARTING, message))
        if self._stopping.wait(wait_s):
            return False
        self.restarts += 1
        try:
            self._service.start()
        except LocalError as error:
            self._on_event(Event(self.name, EventKind.FAILED, str(error)))
            return False
        self.ready = True
        self._on_event(Event(self.name, EventKind.READY))
        return True


def backoff_s(failures: int) -> float:
    """Wait before the n-th restart (n >= 1): doubles, capped, with up to a fifth of jitter."""
    wait_s: float = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** (min(failures, 16) - 1))
    return wait_s * random.uniform(0.8, 1.0)


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(text.rstrip().splitlines()[-lines:])
