"""The set of cameras of this process, and the file that names them.

`apply` touches only cameras whose configuration changed. `watch` reads `cameras.yaml` again when it changes;
an edit with mistakes changes nothing and is told in the log, in status and in a metric.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from framegrid_store.rows import CameraRow, DimensionRow, LineRow, ZoneRow
from watchfiles import awatch

from framegrid_ingest.camera import Camera, Surroundings
from framegrid_ingest.config import CameraConfig, parse_cameras
from framegrid_ingest.errors import ConfigError, Problem
from framegrid_ingest.lane import LiveTotals

logger = logging.getLogger(__name__)

# Where the kernel tells nothing of changes (network file systems), they are seen after this long.
POLL_S = 5.0
# A removed camera's last frames are worth waiting for this long.
FINISH_TIMEOUT_S = 2.0
_SWEEP_S = 0.1
# More than rounding, less than any camera's tick.
_AFTER_S = 1e-3


class CameraSet:
    """All cameras of one process, on one event loop."""

    def __init__(self, shared: Surroundings, announce: Callable[[Sequence[DimensionRow]], None]) -> None:
        self._shared = shared
        self._announce = announce
        self._cameras: dict[str, Camera] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._totals: dict[str, LiveTotals] = {}
        self.config_error = ""

    @property
    def cameras(self) -> list[Camera]:
        """In the order of the configuration."""
        return list(self._cameras.values())

    def named(self, name: str) -> Camera | None:
        """The running camera of that name."""
        return self._cameras.get(name)

    @property
    def recorded_until_s(self) -> float:
        """The last tick of any camera, unix seconds."""
        return max((camera.recorded_until_s for camera in self._cameras.values()), default=-math.inf)

    async def apply(
        self,
        configs: Sequence[CameraConfig],
        not_before_s: Callable[[CameraConfig], float] = lambda _: -math.inf,
    ) -> float:
        """Make the running cameras those of `configs`; new ones record from `not_before_s` on.

        Returns the last tick (unix seconds) of those that were stopped, minus infinity for none.
        """
        wanted = {config.name: config for config in configs}
        changed = [
            name
            for name, camera in self._cameras.items()
            if name not in wanted or wanted[name] != camera.config
        ]
        ends_s = dict(
            zip(changed, await asyncio.gather(*(self._stop(name) for name in changed)), strict=True)
        )
        for name in changed:
            if name not in wanted:
                self._totals.pop(name, None)
                self._shared.metrics.forget(name)
                self._shared.latency.forget(name)
        started = [config for config in configs if config.name not in self._cameras]
        for config in started:
            # The last tick of the camera as it was is not counted again.
            after_s = ends_s.get(config.name, -math.inf) + _AFTER_S
            self._start(config, max(not_before_s(config), after_s))
        self._cameras = {name: self._cameras[name] for name in wanted}
        self._shared.metrics.cameras.set(len(self._cameras))
        removed = [name for name in changed if name not in wanted]
        if started or removed:
            logger.info(
                "cameras: %d, started %s, removed %s",
                len(wanted),
                ", ".join(config.name for config in started) or "none",
                ", ".join(removed) or "none",
            )
        return max(ends_s.values(), default=-math.inf)

    async def sweep(self) -> None:
        """Keep the ticks of silent cameras moving, until cancelled."""
        while True:
            for camera in list(self._cameras.values()):
                camera.sweep()
            await asyncio.sleep(_SWEEP_S)

    async def watch(self, path: Path, environ: Mapping[str, str]) -> None:
        """Follow the file until cancelled. It is read once at the beginning."""
        reader = ConfigFile(path, environ)
        await self._reload(reader)
        async for _ in awatch(
            path.parent,
            recursive=False,
            yield_on_timeout=True,
            rust_timeout=int(POLL_S * 1000),
            step=50,
            debounce=200,
        ):
            await self._reload(reader)

    async def stop_reading(self) -> None:
        """No camera reads any more; what was read goes on its way."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=1.5)

    async def finish(self, timeout_s: float) -> None:
        """Count what was read, write the last rows."""
        await asyncio.gather(*(camera.finish(timeout_s) for camera in self._cameras.values()))

    async def _reload(self, reader: ConfigFile) -> None:
        try:
            configs = reader.read()
        except ConfigError as error:
            self._config_is_broken(error)
            return
        if configs is not None:
            if self.config_error:
                logger.info("the configuration is good again")
            self.config_error = ""
            self._shared.metrics.config_ok.set(1)
            await self.apply(configs)

    def _config_is_broken(self, error: ConfigError) -> None:
        self.config_error = str(error)
        self._shared.metrics.config_ok.set(0)
        logger.error("the configuration is not used, all cameras go on as before:\n%s", error)

    def _start(self, config: CameraConfig, not_before_s: float) -> None:
        totals = self._totals.setdefault(config.name, LiveTotals())
        totals.counts = {}
        camera = Camera(config, self._shared, totals, not_before_s)
        self._announce(dimension_rows(config))
        task = asyncio.get_running_loop().create_task(camera.run(), name=f"camera {config.name}")
        task.add_done_callback(_log_unexpected)
        self._cameras[config.name] = camera
        self._tasks[config.name] = task

    async def _stop(self, name: str) -> float:
        camera, task = self._cameras.pop(name), self._tasks.pop(name)
        task.cancel()
        await asyncio.wait({task}, timeout=1.5)
        await camera.finish(FINISH_TIMEOUT_S)
        return camera.recorded_until_s


class ConfigFile:
    """`cameras.yaml`, read when its text has changed."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._text: str | None = None

    def read(self) -> tuple[CameraConfig, ...] | None:
        """The cameras, or None when nothing has changed. Raises ConfigError, once for each text."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            text = f"\0{reason}"
            if text == self._text:
                return None
            self._text = text
            problem = Problem(str(self._path), 1, 1, "", f"cannot read the file: {reason}")
            raise ConfigError([problem]) from None
        if text == self._text:
            return None
        self._text = text
        return parse_cameras(text, str(self._path), self._environ, self._path.parent)


def dimension_rows(config: CameraConfig) -> list[DimensionRow]:
    """What the store should know of a camera."""
    rows: list[DimensionRow] = [
        CameraRow(config.name, config.site, config.timezone, {}, config.paused),
        *(ZoneRow(config.name, zone.name, zone.polygon) for zone in config.zones),
        *(LineRow(config.name, line.name, line.start, line.end) for line in config.lines),
    ]
    return rows


def _log_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s ended unexpectedly", task.get_name(), exc_info=task.exception())
