"""The videos that the service holds: accepted, analysed one after another in child processes, deleted.

Everything belongs to one event loop. Bounded: bytes in all, videos that wait, seconds for one, children at a
time. Nothing survives a restart: the folder is emptied at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import sys
import time
from collections import deque

from framegrid_ingest.videos.job import UPLOAD, Job, State, Wanted
from framegrid_ingest.videos.settings import VideoSettings

logger = logging.getLogger(__name__)

SWEEP_S = 5.0
_LINE_BYTES = 64 * 1024


class FullError(Exception):
    """No room for another video now; carries `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Shelf:
    """See the module. `run` works until cancelled."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._changed = asyncio.Event()
        shutil.rmtree(settings.folder, ignore_errors=True)
        settings.folder.mkdir(parents=True, mode=0o700)

    def get(self, video: str) -> Job | None:
        """The video of that id."""
        return self._jobs.get(video)

    @property
    def stored_bytes(self) -> int:
        """On disk now; uploads in progress as far as they have come."""
        return sum(job.size_bytes for job in self._jobs.values())

    def open(self, wanted: Wanted) -> Job:
        """A place for an upload. Raises FullError."""
        unfinished = [
            job for job in self._jobs.values() if not job.ended_s and job.state is not State.RUNNING
        ]
        if len(unfinished) >= self._settings.max_waiting:
            raise FullError(
                f"expected at most {self._settings.max_waiting} waiting videos, got one more", 30.0
            )
        if self.stored_bytes >= self._settings.max_stored_bytes:
            raise FullError("the disk space for videos is used up; try again later", 600.0)
        video = secrets.token_urlsafe(16)  # knowing it is the right to see it
        job = Job(video, self._settings.folder / video, wanted)
        job.folder.mkdir(mode=0o700)
        self._jobs[video] = job
        return job

    def submit(self, job: Job) -> None:
        """The upload is whole: wait for a child."""
        job.state = State.WAITING
        self._waiting.append(job)
        self._changed.set()

    def delete(self, job: Job) -> None:
        """Stop what runs, and remove every file."""
        self._jobs.pop(job.id, None)
        if job in self._waiting:
            self._waiting.remove(job)
        child = self._children.get(job.id)
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        shutil.rmtree(job.folder, ignore_errors=True)

    async def run(self) -> None:
        """Analyse and expire until cancelled; children end with it."""
        tasks = [asyncio.create_task(self._work()) for _ in range(self._settings.workers)]
        tasks.append(asyncio.create_task(self._sweep()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for job in list(self._jobs.values()):
                self.delete(job)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_S, self._settings.keep_s))
            now_s = time.monotonic()
            for job in [job for job in self._jobs.values() if job.ended_s]:
                if now_s - job.ended_s > self._settings.keep_s:
                    self.delete(job)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            job = self._waiting.popleft()
            job.state = State.RUNNING
            try:
                await self._analyse(job)
            except (OSError, asyncio.TimeoutError, ValueError) as error:
                logger.exception("a video was not analysed")
                self._end(job, f"it could not be analysed ({type(error).__name__})")

    async def _analyse(self, job: Job) -> None:
        settings = self._settings
        spec = {
            "serve_url": settings.serve_url,
            "max_video_s": settings.max_video_s,
            "wanted": job.wanted.to_json(),
        }
        (job.folder / "job.json").write_text(json.dumps(spec))
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "framegrid_ingest.videos.analysis",
            str(job.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        self._children[job.id] = child
        if job.id not in self._jobs:  # deleted while the child was made
            child.kill()
        error = ""
        try:
            error = await asyncio.wait_for(self._follow(job, child), settings.max_analysis_s)
        except asyncio.TimeoutError:
            error = f"it took longer than {settings.max_analysis_s:g} s; send a shorter one"
        finally:
            del self._children[job.id]
            if child.returncode is None:
                child.kill()
            await child.wait()
        self._end(job, error)

    async def _follow(self, job: Job, child: asyncio.subprocess.Process) -> str:
        """Take in what the child tells; the error, empty when there is none."""
        assert child.stdout is not None
        said = {}
        async for line in child.stdout:
            said = json.loads(line)
            job.progress = said.get("progress", job.progress)
            job.frames = said.get("frames", job.frames)
            job.seconds = said.get("seconds", job.seconds)
        status = await child.wait()
        if said.get("done"):
            return ""
        return str(said.get("error") or f"its analysis ended unexpectedly (status {status}); is it damaged?")

    def _end(self, job: Job, error: str) -> None:
        if job.id not in self._jobs:  # deleted meanwhile
            shutil.rmtree(job.folder, ignore_errors=True)
            return
        (job.folder / UPLOAD).unlink(missing_ok=True)  # nobody needs it any more
        job.end(State.FAILED if error else State.DONE, error)
