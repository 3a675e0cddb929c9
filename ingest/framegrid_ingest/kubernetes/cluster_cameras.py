"""The cameras of this pod, from Camera resources: followed, shared with other pods, reported in their status.

On the event loop; threads follow the API server and hand over snapshots. One broken camera gets a status with
its mistakes and disturbs no other. What changed is applied as an edit of cameras.yaml would be.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from framegrid_ingest.camera import Camera
from framegrid_ingest.cameras import CameraSet
from framegrid_ingest.clock import Clock
from framegrid_ingest.config import CameraConfig
from framegrid_ingest.errors import ConfigError, SourceFault
from framegrid_ingest.intervals import interval_for
from framegrid_ingest.kubernetes.cluster import CAMERAS, Cluster, ClusterError, ConflictError
from framegrid_ingest.kubernetes.follower import Follower
from framegrid_ingest.kubernetes.keeper import LeaseKeeper
from framegrid_ingest.kubernetes.membership import MAX_CLOCK_OFFSET_S, Timing, View
from framegrid_ingest.kubernetes.rendezvous import Member, owned_by
from framegrid_ingest.kubernetes.resource import Declared, camera_config, config_message, declared
from framegrid_ingest.kubernetes.status_plan import CameraStatus, StatusPlan
from framegrid_ingest.settings import KubernetesSettings

logger = logging.getLogger(__name__)

_TURN_S = 0.5
_STATUS_S = 1.0
# A Secret is read again after this long when it was missing, or when the camera refuses the password.
SECRET_RETRY_S = 15.0
_BOOKMARK_S = 90.0


@dataclass(slots=True)
class _Resolved:
    """A Camera's configuration, or why there is none. `config` may be that of an earlier version."""

    version: tuple[str, int]
    config: CameraConfig | None = None
    message: str = ""
    read_s: float = -math.inf
    task: asyncio.Task[None] | None = None


class ClusterCameras:
    """Made on the event loop that runs it. `run`, then `leave` when all cameras are finished."""

    def __init__(
        self,
        cluster: Cluster,
        settings: KubernetesSettings,
        cameras: CameraSet,
        clock: Clock,
        interval_s: float,
    ) -> None:
        self._cluster = cluster
        self._cameras = cameras
        self._clock = clock
        self._interval_s = interval_s
        self._pod = settings.pod
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._alive_s = clock.monotonic_s()
        self._declared: dict[str, Declared] | None = None
        self._resolved: dict[str, _Resolved] = {}
        self._mine: list[str] = []
        self._weighed: tuple[frozenset[Member], dict[str, Declared], list[str]] = (frozenset(), {}, [])
        self._plan = StatusPlan(settings.status_refresh_s)
        timing = Timing(float(settings.lease_s))
        self.keeper = LeaseKeeper(
            cluster,
            settings.pod,
            timing,
            clock,
            on_change=self._wake_from_thread,
            is_alive=lambda: clock.monotonic_s() - self._alive_s < timing.record_s,
        )
        # The follower's own copy; the loop gets a snapshot of it.
        self._following: dict[str, Declared] = {}
        self._follower = Follower(cluster, CAMERAS, self._listed, self._saw, quiet_s=_BOOKMARK_S)

    async def run(self) -> None:
        """Follow and apply, until cancelled."""
        self._follower.start()
        self.keeper.start()
        await asyncio.gather(
            self._keep_alive(),
            _forever("applying cameras", self._turn),
            _forever("writing status", self._write_status),
        )

    async def leave(self, recorded_until_s: float) -> None:
        """All cameras are finished: let others have them."""
        await self._loop.run_in_executor(None, self.keeper.release, recorded_until_s)
        await self._loop.run_in_executor(None, self._follower.stop)
        self._cluster.close()

    def status(self) -> dict[str, Any]:
        """For /status."""
        view = self.keeper.view
        return {
            "pod": self._pod,
            "member": self.keeper.me.name,
            "members": sorted(member.pod for member in view.members),
            "is_active": view.is_active,
            "cameras_total": len(self._declared or ()),
            "cameras_owned": len(self._mine),
            "invalid": {
                name: self._resolved[name].message
                for name in self._mine
                if name in self._resolved and self._resolved[name].message
            },
            "message": self.keeper.last_error or self._follower.last_error,
        }

    # The follower's thread.

    def _listed(self, objects: list[dict[str, Any]], version: str) -> None:
        self._following = {camera.name: camera for camera in map(declared, objects)}
        self._hand_over()

    def _saw(self, kind: str, found: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        camera = declared(found)
        before = self._following.get(camera.name)
        if kind == "DELETED":
            self._following.pop(camera.name, None)
        elif before is not None and before.version == camera.version:
            return  # its status, which some pod has written
        else:
            self._following[camera.name] = camera
        self._hand_over()

    def _hand_over(self) -> None:
        snapshot = dict(self._following)

        def take() -> None:
            self._declared = snapshot
            self._changed.set()

        self._to_loop(take)

    def _wake_from_thread(self) -> None:
        self._to_loop(self._changed.set)

    def _to_loop(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: this process ends
            return

    # The event loop.

    async def _keep_alive(self) -> None:
        while True:
            self._alive_s = self._clock.monotonic_s()
            await asyncio.sleep(0.2)

    async def _turn(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _TURN_S)
        self._changed.clear()
        if self.keeper.is_lost:
            until_s = await self._cameras.apply([])
            self._mine = []
            await self._loop.run_in_executor(None, self.keeper.rejoin, until_s)
            return
        me, view = self.keeper.me, self.keeper.view
        known = self._declared or {}
        self._mine = self._owned(me, view, known)
        self._resolved = {name: self._resolved.get(name) or _Resolved(("", -1)) for name in self._mine}
        configs = [config for name in self._mine if (config := self._config_of(known[name])) is not None]
        until_s = await self._cameras.apply(
            configs, lambda config: self._not_before_s(config, view.start_after_s)
        )
        self.keeper.applied(me, view.number, until_s)

    def _owned(self, me: Member, view: View, known: dict[str, Declared]) -> list[str]:
        """My cameras; weighed again only when members or cameras are others than last time."""
        if not view.is_active or me not in view.members:
            return []
        members, cameras, mine = self._weighed
        if members is not view.members or cameras is not known:
            mine = owned_by(me.name, list(known), view.members)
            self._weighed = view.members, known, mine
        return mine

    def _not_before_s(self, config: CameraConfig, start_after_s: float) -> float:
        """The first interval that nobody else has begun."""
        if start_after_s == -math.inf:
            return -math.inf
        ahead_s = start_after_s - self._clock.unix_s()
        if ahead_s > MAX_CLOCK_OFFSET_S:
            logger.error(
                "expected clocks within %.0f s, got another pod's %.0f s ahead: its camera is taken over at "
                "once and intervals may be recorded twice; set the clocks",
                MAX_CLOCK_OFFSET_S,
                ahead_s,
                extra={"camera": config.name},
            )
            return -math.inf
        interval_s = interval_for(config.fps, self._interval_s)
        return (math.floor(start_after_s / interval_s + 1e-6) + 1) * interval_s

    def _config_of(self, camera: Declared) -> CameraConfig | None:
        """What to run now. While a Secret is being read, what ran before."""
        entry = self._resolved[camera.name]
        if entry.task is not None:
            return entry.config
        now_s = self._clock.monotonic_s()
        if not camera.secret:
            if entry.version != camera.version:
                self._parse(camera, entry, {})
        elif entry.version != camera.version or self._wants_secret_again(camera.name, entry, now_s):
            entry.read_s = now_s
            entry.task = asyncio.create_task(self._read_secret(camera, entry))
        return entry.config

    def _wants_secret_again(self, name: str, entry: _Resolved, now_s: float) -> bool:
        running = self._cameras.named(name)
        is_refused = running is not None and running.fault == SourceFault.UNAUTHORIZED.value
        return (entry.config is None or is_refused) and now_s - entry.read_s >= SECRET_RETRY_S

    async def _read_secret(self, camera: Declared, entry: _Resolved) -> None:
        try:
            found = await self._loop.run_in_executor(None, self._cluster.secret, camera.secret)
            self._parse(camera, entry, _texts(found.data or {}))
        except ConflictError:
            message = f"spec.secretRef: expected a Secret named {camera.secret}, got none; create it"
            entry.version, entry.config, entry.message = camera.version, None, message
        except ClusterError as error:
            entry.message = f"spec.secretRef: Secret {camera.secret} cannot be read: {error}"
            if error.status == 403:
                entry.version, entry.config = camera.version, None
        finally:
            entry.task = None
            self._changed.set()

    def _parse(self, camera: Declared, entry: _Resolved, secret: Mapping[str, str]) -> None:
        entry.version = camera.version
        try:
            entry.config, entry.message = camera_config(camera, secret), ""
        except ConfigError as error:
            entry.config, entry.message = None, config_message(error)
            logger.warning("camera is not run: %s", entry.message, extra={"camera": camera.name})

    async def _write_status(self) -> None:
        await asyncio.sleep(_STATUS_S)
        if self.keeper.records_until_s() < self._clock.unix_s():
            return  # not sure to own anything
        known = self._declared or {}
        wanted = {
            name: status for name in self._mine if name in known and (status := self._status_of(known[name]))
        }
        self._plan.keep(wanted)
        due = self._plan.due(wanted, len(known), self._clock.monotonic_s())
        await asyncio.gather(*(self._patch(name, wanted[name]) for name in due))

    async def _patch(self, name: str, status: CameraStatus) -> None:
        is_written = True
        try:
            await self._loop.run_in_executor(None, self._cluster.patch_status, CAMERAS, name, status.patch())
        except ConflictError:  # it was deleted meanwhile
            pass
        except ClusterError as error:
            logger.debug("status is not written: %s", error, extra={"camera": name})
            is_written = False
        self._plan.tried(name, status, self._clock.monotonic_s(), is_written=is_written)

    def _status_of(self, camera: Declared) -> CameraStatus | None:
        entry = self._resolved.get(camera.name)
        if entry is None:
            return None
        if entry.config is None and entry.message:
            return CameraStatus("invalid", "", entry.message, self._pod, camera.generation)
        running = self._cameras.named(camera.name)
        return None if running is None else _running_status(running, self._pod, entry.version[1])


def _running_status(camera: Camera, pod: str, generation: int) -> CameraStatus:
    return CameraStatus(
        camera.state.value,
        camera.facts.kind if camera.facts else camera.config.source_kind,
        camera.message,
        pod,
        generation,
        round(camera.frame_rates()[1], 1),
        camera.totals.last_captured_at_s,
    )


def _texts(data: Mapping[str, str]) -> dict[str, str]:
    """A Secret's values; the newline that `echo` and editors leave at the end is none of the password."""
    return {
        key: base64.b64decode(value).decode("utf-8", "replace").rstrip("\r\n") for key, value in data.items()
    }


async def _forever(what: str, turn: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await turn()
        except Exception:
            logger.exception("%s failed unexpectedly, going on", what)
            await asyncio.sleep(1.0)
