"""List, then watch, for ever: one thread that follows one kind of object.

After a break it goes on from the last version that it saw; when that is too old (410), or was never there, it
lists again. Breaks are waited for, longer each time, jittered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from framegrid_ingest.backoff import Backoff
from framegrid_ingest.kubernetes.cluster import Cluster, ClusterError, GoneError, Resource, Watch

logger = logging.getLogger(__name__)

_LOG_EVERY = 20


class Follower:
    """Calls `on_list(objects, version)` and `on_event(kind, object)` in its own thread.

    `quiet_s`: a watch that brings nothing for so long is taken for dead (bookmarks come about once a minute).
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        on_list: Callable[[list[dict[str, Any]], str], None],
        on_event: Callable[[str, dict[str, Any]], None],
        *,
        quiet_s: float,
        cap_s: float = 15.0,
    ) -> None:
        self._cluster = cluster
        self._resource = resource
        self._on_list = on_list
        self._on_event = on_event
        self._quiet_s = quiet_s
        self._backoff = Backoff(first_s=0.2, cap_s=cap_s, reset_after_s=5.0)
        self._version = ""
        self._must_list = True
        self._watch: Watch | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"framegrid-watch-{resource.plural}", daemon=True
        )
        self.last_error = ""
        self.breaks = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 0.3) -> None:
        """End the thread; one in the middle of a request is left to end with the process."""
        self._stopped.set()
        self.interrupt()
        self._thread.join(timeout_s)

    def interrupt(self) -> None:
        """Break the watch: it is opened again at once."""
        watch = self._watch
        if watch is not None:
            watch.stop()

    def relist(self) -> None:
        """Begin again with a list."""
        self._must_list = True
        self.interrupt()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
                self.last_error = ""
            except GoneError:
                self._must_list = True
            except ClusterError as error:
                self._broken(error)
            except Exception:
                logger.exception("watching %s failed unexpectedly, listing again", self._resource.plural)
                self._must_list = True
                self._stopped.wait(self._backoff.failed())

    def _follow(self) -> None:
        if self._must_list:
            self._must_list = False
            self._list()
        watch = self._cluster.watch(self._resource, self._version, quiet_s=self._quiet_s)
        self._watch = watch
        try:
            for kind, found in watch:
                self._backoff.failures = 0
                self.last_error = ""
                if kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                    self._on_event(kind, found)
                    self._version = str(found["metadata"]["resourceVersion"])
                if self._stopped.is_set() or self._must_list:
                    watch.stop()
        finally:
            self._watch = None

    def _list(self) -> None:
        try:
            objects, self._version = self._cluster.list(self._resource)
        except ClusterError:
            self._must_list = True
            raise
        self._on_list(objects, self._version)

    def _broken(self, error: ClusterError) -> None:
        if self._stopped.is_set():
            return
        self.breaks += 1
        self.last_error = str(error)
        if self._backoff.failures % _LOG_EVERY == 0:
            logger.warning("%s are not followed for now", self._resource.plural, extra={"error": str(error)})
        self._stopped.wait(self._backoff.failed())
