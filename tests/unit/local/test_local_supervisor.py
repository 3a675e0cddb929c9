"""The supervisor with tiny real children: slow ones, crashing ones, ones that refuse to stop."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from framegrid_local import supervisor as supervisor_module
from framegrid_local.errors import ChildFailedError, LocalError
from framegrid_local.process import Command, GuardedProcess
from framegrid_local.supervisor import Event, EventKind, ProcessService, Supervisor, backoff_s, tail

SLEEP = "import time\nwhile True: time.sleep(60)\n"
IGNORE_TERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


class Watched:
    """A supervisor whose events can be waited for."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.seen: list[Event] = []
        self.supervisor = Supervisor(self.events.put)

    def wait_for(self, kind: EventKind, name: str = "child", within_s: float = 10.0) -> Event:
        until = time.monotonic() + within_s
        while True:
            event = self.events.get(timeout=max(0.01, until - time.monotonic()))
            self.seen.append(event)
            if (event.service, event.kind) == (name, kind):
                return event


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(supervisor_module, "BACKOFF_FIRST_S", 0.05)
    under_test = Watched()
    yield under_test
    under_test.supervisor.stop()


def python(code: str, log: Path, grace_s: float = 5.0) -> Command:
    return Command((sys.executable, "-S", "-c", code), log, grace_s=grace_s)


def marks(path: Path) -> str:
    return f"open({str(path)!r}, 'a').write(str(__import__('os').getpid()) + chr(10))\n"


def service(code: str, tmp_path: Path, *, name: str = "child", timeout_s: float = 10.0) -> ProcessService:
    """Ready once it has written its process id into <name>.pid."""
    mark = tmp_path / f"{name}.pid"
    command = python(code.replace("READY", marks(mark)), tmp_path / f"{name}.log")
    return ProcessService(name, command, lambda: is_written(mark), ready_timeout_s=timeout_s)


def is_written(mark: Path) -> bool:
    """The file is there, and the line in it too."""
    return mark.exists() and mark.read_text().endswith("\n")


def pids(tmp_path: Path, name: str = "child") -> list[int]:
    return [int(line) for line in (tmp_path / f"{name}.pid").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    until = time.monotonic() + within_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def test_waits_for_a_slow_child(watched: Watched, tmp_path: Path) -> None:
    watched.supervisor.start("child", service("import time; time.sleep(0.4)\nREADY" + SLEEP, tmp_path))
    watched.supervisor.wait_ready("child")
    assert watched.supervisor.is_ready("child")
    watched.supervisor.stop()
    assert not alive(pids(tmp_path)[0])


def test_says_what_a_child_wrote_when_it_cannot_start(watched: Watched, tmp_path: Path) -> None:
    code = "print('cannot bind to port 80')\nraise SystemExit(3)\n"
    watched.supervisor.start("child", service(code, tmp_path))
    with pytest.raises(ChildFailedError, match=r"child ended with status 3 .*child\.log") as failure:
        watched.supervisor.wait_ready("child")
    assert failure.value.log_tail == "cannot bind to port 80"


def test_gives_up_on_a_child_that_is_never_ready(watched: Watched, tmp_path: Path) -> None:
    code = "import os\n" + marks(tmp_path / "other.pid") + "print('waiting', flush=True)\n" + SLEEP
    watched.supervisor.start("child", service(code, tmp_path, timeout_s=0.6))
    with pytest.raises(ChildFailedError, match="not ready after") as failure:
        watched.supervisor.wait_ready("child")
    assert failure.value.log_tail == "waiting"
    assert not alive(pids(tmp_path, "other")[0])


def test_restarts_a_crashed_child_and_says_so(watched: Watched, tmp_path: Path) -> None:
    watched.supervisor.start("child", service("READY" + SLEEP, tmp_path))
    watched.supervisor.wait_ready("child")
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    assert "status 137" in watched.wait_for(EventKind.CRASHED).message
    assert "attempt 1" in watched.wait_for(EventKind.RESTARTING).message
    watched.wait_for(EventKind.READY)
    assert wait_until(lambda: len(pids(tmp_path)) == 2)
    assert alive(pids(tmp_path)[1])
    assert watched.supervisor.restarts() == {"child": 1}


def test_keeps_trying_when_a_restart_fails(watched: Watched, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    code = f"import os\nif os.path.exists({str(flag)!r}): raise SystemExit('still broken')\nREADY{SLEEP}"
    child = service(code, tmp_path)
    child.is_ready = lambda: not flag.exists() and is_written(tmp_path / "child.pid")
    watched.supervisor.start("child", child)
    watched.supervisor.wait_ready("child")
    flag.touch()
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    watched.wait_for(EventKind.FAILED)
    watched.wait_for(EventKind.FAILED)
    flag.unlink()
    watched.wait_for(EventKind.READY)
    assert watched.supervisor.is_ready("child")


def test_kills_a_child_that_refuses_to_stop(watched: Watched, tmp_path: Path) -> None:
    child = service(IGNORE_TERM + "READY" + SLEEP, tmp_path)
    child.command = python(
        IGNORE_TERM + marks(tmp_path / "child.pid") + SLEEP, tmp_path / "child.log", grace_s=0.3
    )
    watched.supervisor.start("child", child)
    watched.supervisor.wait_ready("child")
    started = time.monotonic()
    watched.supervisor.stop()
    assert time.monotonic() - started < 5
    assert not alive(pids(tmp_path)[0])


def test_stops_in_the_order_given(watched: Watched, tmp_path: Path) -> None:
    for name in ("database", "writer", "page"):
        watched.supervisor.start(name, service("READY" + SLEEP, tmp_path, name=name))
    watched.supervisor.wait_ready("database", "writer", "page")
    watched.supervisor.stop(("writer", "database"))
    stopped = [e.service for e in list(watched.events.queue) if e.kind is EventKind.STOPPED]
    assert stopped == ["writer", "database", "page"]


def test_stopping_does_not_wait_for_a_child_still_starting(watched: Watched, tmp_path: Path) -> None:
    watched.supervisor.start("child", service(SLEEP, tmp_path, timeout_s=60))
    watched.wait_for(EventKind.STARTING)
    started = time.monotonic()
    watched.supervisor.stop()
    assert time.monotonic() - started < 5


def test_a_daemon_that_left_its_session_goes_with_its_parent(tmp_path: Path) -> None:
    daemon = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        {marks(tmp_path / 'daemon.pid')}"
        "        while True: time.sleep(60)\n"
        "    os._exit(0)\n"
    )
    process = GuardedProcess(python(daemon + SLEEP, tmp_path / "log"))
    assert wait_until(lambda: is_written(tmp_path / "daemon.pid"))
    process.stop()
    assert not alive(pids(tmp_path, "daemon")[0])


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "child.pid"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from framegrid_local.process import Command, GuardedProcess\n"
        "GuardedProcess(Command((sys.executable, '-S', '-c', sys.argv[1]), Path(sys.argv[2])))\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, marks(mark) + SLEEP, str(tmp_path / "log")])
    assert wait_until(lambda: is_written(mark))
    child = pids(tmp_path)[0]
    assert alive(child)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(child))


def test_a_command_that_does_not_exist_is_said_in_the_log(tmp_path: Path) -> None:
    process = GuardedProcess(Command(("/nowhere/program",), tmp_path / "log"))
    assert process.wait(10) == 127
    assert "cannot run /nowhere/program: " in process.log_since_start()
    process.stop()


def test_backoff_doubles_up_to_its_limit() -> None:
    waits = [backoff_s(n) for n in range(1, 12)]
    assert all(0.4 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits[:6]))
    assert max(waits) <= supervisor_module.BACKOFF_MOST_S


def test_stopping_while_starting_is_not_reported_as_ready(watched: Watched, tmp_path: Path) -> None:
    watched.supervisor.start("child", service(SLEEP, tmp_path, timeout_s=60))
    watched.wait_for(EventKind.STARTING)
    failures: list[LocalError] = []

    def wait() -> None:
        try:
            watched.supervisor.wait_ready("child")
        except LocalError as error:
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    watched.supervisor.stop()
    waiter.join()
    assert "stopped while it started" in str(failures[0])


def test_tail_keeps_the_last_lines() -> None:
    assert tail("a\nb\nc\n", 2) == "b\nc"


def test_a_signal_is_passed_on_to_the_command(tmp_path: Path) -> None:
    mark = tmp_path / "child.pid"
    note = f"open({str(mark)!r}, 'a').write('reread' + chr(10))"
    handler = f"import signal\nsignal.signal(signal.SIGHUP, lambda *_: {note})\n"
    process = GuardedProcess(python(handler + marks(mark) + SLEEP, tmp_path / "log"))
    assert wait_until(lambda: is_written(mark))
    process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "reread" in mark.read_text())
    assert process.poll() is None
    process.stop()
