"""The few calls to the API server that ingest makes: counted, with a time limit, errors as three kinds.

Thread-safe. Objects are plain dictionaries as the API server sends them. Nothing is retried here: each caller
has its own answer to a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from framegrid_ingest.errors import IngestError
from framegrid_ingest.kubernetes.resource import GROUP, PLURAL, VERSION

CALL_TIMEOUT_S = 5.0
# A Lease is written every two seconds: an answer that comes later than this is worth nothing.
LEASE_TIMEOUT_S = 1.5
LIST_TIMEOUT_S = 10.0
_LIST_PAGE = 500
_MAX_MESSAGE_CHARS = 512


class Resource(NamedTuple):
    """One kind of object, and which of them."""

    group: str
    version: str
    plural: str
    selector: str = ""
    timeout_s: float = CALL_TIMEOUT_S


CAMERAS = Resource(GROUP, VERSION, PLURAL)
MEMBER_LABEL = f"{GROUP}/member"
LEASES = Resource("coordination.k8s.io", "v1", "leases", f"{MEMBER_LABEL}=ingest", LEASE_TIMEOUT_S)


class ClusterError(IngestError):
    """The API server did not do it; worth another try later. `status` is 0 when it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ConflictError(ClusterError):
    """Somebody changed or removed the object meanwhile (409, 404): read it before another try."""


class GoneError(ClusterError):
    """That resourceVersion is too old to watch from (410): list again."""


class Cluster:
    """One namespace. `on_request` is told verb, resource and outcome (a status, or 0) of each call."""

    def __init__(
        self,
        namespace: str,
        kubeconfig: Path | None,
        on_request: Callable[[str, str, str], None] = lambda verb, resource, outcome: None,
    ) -> None:
        """Raises ClusterError when no cluster is configured: neither a service account nor a kubeconfig."""
        configuration, own_namespace = _load(kubeconfig)
        configuration.retries = False
        configuration.connection_pool_maxsize = 8
        configuration.client_side_validation = False
        self._client = client.ApiClient(configuration)
        self._objects = client.CustomObjectsApi(self._client)
        self._core = client.CoreV1Api(self._client)
        self._on_request = on_request
        self.namespace = namespace or own_namespace
        self.host = str(configuration.host)

    def close(self) -> None:
        self._client.close()

    def list(self, resource: Resource) -> tuple[list[dict[str, Any]], str]:
        """All objects and the version that they are of. A consistent read, page by page."""
        items: list[dict[str, Any]] = []
        following = ""
        while True:
            extra = {"_continue": following} if following else {}
            with self._call("list", resource.plural):
                page: Any = self._objects.list_namespaced_custom_object(
                    **self._where(resource),
                    label_selector=resource.selector,
                    limit=_LIST_PAGE,
                    _request_timeout=LIST_TIMEOUT_S,
                    **extra,
                )
            items += page["items"]
            following = page["metadata"].get("continue") or ""
            if not following:
                return items, str(page["metadata"]["resourceVersion"])

    def watch(self, resource: Resource, version: str, *, quiet_s: float, for_s: int = 290) -> Watch:
        """Changes after `version`. Fails when nothing, not even a bookmark, comes for `quiet_s`."""
        with self._call("watch", resource.plural):
            response: Any = self._objects.list_namespaced_custom_object(
                **self._where(resource),
                label_selector=resource.selector,
                resource_version=version,
                watch=True,
                allow_watch_bookmarks=True,
                timeout_seconds=for_s,
                _preload_content=False,
                _request_timeout=(CALL_TIMEOUT_S, quiet_s),
            )
        return Watch(response)

    def get(self, resource: Resource, name: str) -> dict[str, Any]:
        """One object. Raises ConflictError when there is none."""
        with self._call("get", resource.plural):
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                **self._where(resource), name=name, _request_timeout=resource.timeout_s
            )
        return found

    def create(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object as stored. Raises ConflictError when it exists."""
        with self._call("create", resource.plural):
            made: dict[str, Any] = self._objects.create_namespaced_custom_object(
                **self._where(resource), body=dict(body), _request_timeout=resource.timeout_s
            )
        return made

    def replace(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object as stored. With metadata.resourceVersion: ConflictError when it has another one."""
        with self._call("update", resource.plural):
            made: dict[str, Any] = self._objects.replace_namespaced_custom_object(
                **self._where(resource),
                name=body["metadata"]["name"],
                body=dict(body),
                _request_timeout=resource.timeout_s,
            )
        return made

    def delete(self, resource: Resource, name: str) -> None:
        """Raises ConflictError when there is none."""
        with self._call("delete", resource.plural):
            self._objects.delete_namespaced_custom_object(
                **self._where(resource), name=name, _request_timeout=resource.timeout_s
            )

    def patch_status(self, resource: Resource, name: str, patch: Mapping[str, Any]) -> None:
        """Merge into the status. Raises ConflictError when there is no such object."""
        with self._call("patch", f"{resource.plural}/status"):
            self._objects.patch_namespaced_custom_object_status(
                **self._where(resource), name=name, body=dict(patch), _request_timeout=resource.timeout_s
            )

    def secret(self, name: str) -> Any:
        """The Secret's object with its data in base64. Raises ConflictError when there is none."""
        with self._call("get", "secrets"):
            return self._core.read_namespaced_secret(name, self.namespace, _request_timeout=CALL_TIMEOUT_S)

    def pod(self, name: str) -> Any:
        """The pod's object. Raises ConflictError when there is none."""
        with self._call("get", "pods"):
            return self._core.read_namespaced_pod(name, self.namespace, _request_timeout=CALL_TIMEOUT_S)

    def _where(self, resource: Resource) -> dict[str, str]:
        return {
            "group": resource.group,
            "version": resource.version,
            "namespace": self.namespace,
            "plural": resource.plural,
        }

    @contextmanager
    def _call(self, verb: str, resource: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            status = int(error.status or 0)
            self._on_request(verb, resource, str(status))
            raise _wrapped(status, f"{verb} {resource}", _message(error)) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            self._on_request(verb, resource, "0")
            raise ClusterError(f"{verb} {resource} at {self.host}: {type(error).__name__}") from error
        self._on_request(verb, resource, "200")


class Watch:
    """Events of one watch, in order: (ADDED | MODIFIED | DELETED | BOOKMARK, object)."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self._response = response
        self._is_stopped = False

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ends when the API server ends the watch. Raises GoneError, or ClusterError when it breaks."""
        rest = b""
        try:
            for chunk in self._response.stream(65_536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _event(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if self._is_stopped:
                return
            raise ClusterError(f"the watch broke: {type(error).__name__}") from error
        finally:
            self._response.close()

    def stop(self) -> None:
        """From another thread: the iteration ends."""
        self._is_stopped = True
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):  # it has ended by itself
            return


def _event(line: bytes) -> tuple[str, dict[str, Any]]:
    event = json.loads(line)
    if event["type"] == "ERROR":
        status = int(event["object"].get("code", 0))
        raise _wrapped(status, "watch", str(event["object"].get("message", "")))
    return event["type"], event["object"]


def _wrapped(status: int, what: str, message: str) -> ClusterError:
    kind = {404: ConflictError, 409: ConflictError, 410: GoneError}.get(status, ClusterError)
    return kind(f"{what}: {status} {message[:_MAX_MESSAGE_CHARS]}", status)


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason or "")


def _load(kubeconfig: Path | None) -> tuple[Any, str]:
    """The client's configuration and the namespace that goes with it."""
    configuration = client.Configuration()
    namespace_file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    try:
        if kubeconfig is None and namespace_file.exists():
            config.load_incluster_config(client_configuration=configuration)
            return configuration, namespace_file.read_text(encoding="utf-8").strip()
        where = None if kubeconfig is None else str(kubeconfig)
        config.load_kube_config(config_file=where, client_configuration=configuration)
        _, context = config.list_kube_config_contexts(config_file=where)
        return configuration, str(context["context"].get("namespace") or "default")
    except (ConfigException, OSError, TypeError) as error:
        raise ClusterError(
            "kubernetes: expected a service account (in a pod) or a kubeconfig file, got neither: "
            f"{error}; set kubernetes.kubeconfig, or use cameras: with a file"
        ) from None
