"""Keeps this process's Lease and follows those of the others: `membership` with threads and a network.

Two threads: one follows the Leases, one writes. Everything that `membership` decides is decided under one
lock; no call to the API server is made while it is held. `records_until_s` is the fence that recording asks.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from framegrid_ingest.clock import Clock
from framegrid_ingest.kubernetes.cluster import LEASES, Cluster, ClusterError, ConflictError
from framegrid_ingest.kubernetes.follower import Follower
from framegrid_ingest.kubernetes.leases import Written, ended, lease_object, member_lease, written
from framegrid_ingest.kubernetes.membership import MemberLease, Membership, Step, Timing, View
from framegrid_ingest.kubernetes.rendezvous import Member

logger = logging.getLogger(__name__)

_LOOK_S = 0.1


class LeaseKeeper:
    """`on_change` is called from a thread when `view` or `is_lost` may be new. `is_alive`: see `_keep`."""

    def __init__(
        self,
        cluster: Cluster,
        pod: str,
        timing: Timing,
        clock: Clock,
        *,
        on_change: Callable[[], None],
        is_alive: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._timing = timing
        self._clock = clock
        self._on_change = on_change
        self._is_alive = is_alive
        self._owners: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._raw: dict[str, dict[str, Any]] = {}
        self._records_until_s = -math.inf
        self._told: tuple[str, int, bool] = ("", -1, False)
        self.last_error = ""
        self._follower = Follower(
            cluster, LEASES, self._listed, self._saw, quiet_s=2 * timing.lease_s, cap_s=1.0
        )
        self._writer = threading.Thread(target=self._keep, name="framegrid-lease", daemon=True)
        self._join(-math.inf)

    @property
    def me(self) -> Member:
        return self._membership.me

    @property
    def view(self) -> View:
        with self._lock:
            return self._membership.view

    @property
    def is_lost(self) -> bool:
        """The Lease was ended by another: stop all cameras, then `rejoin`."""
        return self._membership.is_lost

    def records_until_s(self) -> float:
        """Unix seconds; no later tick may be recorded for now. From any thread."""
        return self._records_until_s

    def start(self) -> None:
        self._follower.start()
        self._writer.start()

    def applied(self, me: Member, number: int, recorded_until_s: float) -> None:
        """The process acts on that view."""
        with self._lock:
            if me == self._membership.me:
                self._membership.applied(number, recorded_until_s)
        self._wake.set()

    def rejoin(self, recorded_until_s: float) -> None:
        """Begin again under a new name, after `is_lost`, when every camera was stopped."""
        with self._lock:
            floor_s = max(self._membership.view.start_after_s, self._records_until_s, recorded_until_s)
            self._join(floor_s)
        self._follower.relist()
        logger.warning("this pod's lease was ended by another pod; joining again as %s", self.me.name)

    def release(self, recorded_until_s: float) -> None:
        """End the own Lease: others may take the cameras at once. Then end both threads. Blocks."""
        self._stopped.set()
        self._wake.set()
        self._writer.join(2.0)
        for _ in range(2):
            with self._lock:
                step, before = self._membership.step(self._clock.monotonic_s()), self._written
            if before is None:
                break
            try:
                self._cluster.replace(LEASES, self._object(step, recorded_until_s, before, is_ended=True))
                logger.info("lease released: other pods may take this one's cameras")
                break
            except ConflictError:
                self._read_own()
            except ClusterError as error:
                logger.warning("the lease is not released, it runs out: %s", error)
                break
        self._follower.stop()

    def _join(self, start_after_s: float) -> None:
        me = Member(f"{self._pod}-{secrets.token_hex(4)}", self._pod)
        self._membership = Membership(me, self._timing, self._clock.monotonic_s(), start_after_s)
        self._written: Written | None = None
        self._records_until_s = -math.inf

    # The follower's thread.

    def _listed(self, objects: list[dict[str, Any]], version: str) -> None:
        leases = [member_lease(lease) for lease in objects]
        with self._lock:
            self._raw = {lease["metadata"]["name"]: lease for lease in objects}
            self._membership.listed(leases, int(version), self._clock.monotonic_s(), self._clock.unix_s())
        self._wake.set()
        self._tell()

    def _saw(self, kind: str, found: dict[str, Any]) -> None:
        with self._lock:
            if kind == "BOOKMARK":
                self._membership.progress(int(found["metadata"]["resourceVersion"]))
            else:
                self._take(kind, found, member_lease(found))
        self._wake.set()
        self._tell()

    def _take(self, kind: str, found: dict[str, Any], lease: MemberLease) -> None:
        now_s = self._clock.monotonic_s()
        if kind == "DELETED":
            self._raw.pop(lease.name, None)
            self._membership.gone(lease, now_s)
        else:
            self._raw[lease.name] = found
            self._membership.saw(lease, now_s)

    def _tell(self) -> None:
        """Wake who acts on the view, when there is something new."""
        membership = self._membership
        news = (membership.me.name, membership.view.number, membership.is_lost)
        if news != self._told:
            self._told = news
            self._on_change()

    # The writer's thread.

    def _keep(self) -> None:
        self._owners = self._pod_owners()
        while not self._stopped.is_set():
            try:
                self._act()
            except Exception:
                logger.exception("keeping the lease failed unexpectedly, going on")
                self._stopped.wait(1.0)
            self._wake.wait(_LOOK_S)
            self._wake.clear()

    def _act(self) -> None:
        with self._lock:
            now_s = self._clock.monotonic_s()
            membership = self._membership
            step = membership.step(now_s)
            for name in (*step.end, *step.remove):
                membership.put_off(name, now_s)
            to_end = [self._raw[name] for name in step.end if name in self._raw]
        # A process whose event loop hangs counts no frames: its cameras are better off elsewhere.
        if step.write and self._is_alive():
            self._write(membership, step)
        for lease in to_end:
            self._end(lease)
        for name in step.remove:
            self._remove(name)
        self._tell()

    def _write(self, membership: Membership, step: Step) -> None:
        sent_s = self._clock.monotonic_s()
        until_s = self._clock.unix_s() + self._timing.record_s if step.is_active else 0.0
        before = self._written
        body = self._object(step, until_s, before)
        try:
            stored = (
                self._cluster.create(LEASES, body) if before is None else self._cluster.replace(LEASES, body)
            )
        except ClusterError as error:
            self.last_error = str(error)
            with self._lock:
                membership.failed(sent_s)
            if isinstance(error, ConflictError) or error.status == 0:
                self._read_own()  # it may have been written although the answer was lost
            return
        self.last_error = ""
        with self._lock:
            if membership is not self._membership:
                return
            self._written = written(stored)
            membership.wrote(step, int(self._written.version), sent_s)
            if step.is_active:
                self._records_until_s = max(self._records_until_s, until_s)

    def _read_own(self) -> None:
        membership = self._membership
        try:
            found = self._cluster.get(LEASES, membership.me.name)
        except ConflictError:  # none
            with self._lock:
                membership.is_lost = membership.is_lost or self._written is not None
            return
        except ClusterError:
            return
        with self._lock:
            if membership is self._membership:
                self._written = written(found)
            if not member_lease(found).pod:
                membership.is_lost = True

    def _object(
        self, step: Step, records_until_s: float, before: Written | None, *, is_ended: bool = False
    ) -> dict[str, Any]:
        return lease_object(
            self._membership.me,
            step,
            lease_s=self._timing.lease_s,
            records_until_s=records_until_s,
            unix_s=self._clock.unix_s(),
            before=before,
            owners=self._owners,
            is_ended=is_ended,
        )

    def _end(self, lease: Mapping[str, Any]) -> None:
        name = lease["metadata"]["name"]
        try:
            self._cluster.replace(LEASES, ended(lease))
        except ConflictError:  # it lives, or another one ended it first
            return
        except ClusterError as error:
            self.last_error = str(error)
            return
        logger.warning(
            "pod %s has not renewed its lease: its cameras move",
            lease["spec"]["holderIdentity"],
            extra={"lease": name},
        )

    def _remove(self, name: str) -> None:
        try:
            self._cluster.delete(LEASES, name)
        except ClusterError as error:
            logger.debug("lease %s is not removed: %s", name, error)

    def _pod_owners(self) -> list[dict[str, Any]]:
        """Whatever made this pod (a ReplicaSet, a StatefulSet): with it, the Leases go too."""
        try:
            pod = self._cluster.pod(self._pod)
        except ClusterError as error:
            logger.info("leases will have no owner, uninstalling leaves them: %s", error)
            return []
        return [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
            for owner in pod.metadata.owner_references or ()
        ]
