"""Ray Serve on one machine, in HAProxy mode: start, change the models, stop. Owns all that it starts.

Every side port is a free one and every file lies under `state_dir`, so several can run beside each other
and beside any other Ray. Nothing is asked of a Ray that is already there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import secrets
import shutil
import socket
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from framegrid_serve.errors import StartError
from framegrid_serve.settings import NodeSettings
from framegrid_serve.spares import Spares
from framegrid_serve.spec import ServingConfig

logger = logging.getLogger(__name__)

APP_NAME = "framegrid"
# Frames never pass through the object store; Ray refuses less than 75 MB.
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
# HAProxy takes socket paths of 97 bytes, and Ray puts `/h/<56 digits>/metrics.sock` behind this one.
_MAX_RAY_DIR_BYTES = 97 - 72
_READY_TIMEOUT_S = 180.0
_POLL_S = 0.1
# Ports that replicas listen on; HAProxy forwards to them.
_REPLICA_PORTS = 200
# Below the kernel's ephemeral range (from 32,768), where outgoing connections of others are.
_PICKABLE_PORTS = range(10_000, 32_000)


class Node:
    """One machine's Ray Serve. Use `start`, then `apply` at will, then `stop` exactly once."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._short_dir: Path | None = None
        self._started = False
        self._spares = Spares(settings.cpus_per_replica)

    @property
    def url(self) -> str:
        """Where requests go."""
        return self._settings.url

    def start(self, config: ServingConfig) -> None:
        """Start everything and return when the first request would be answered. Raises StartError."""
        check_port_free(self._settings.http_host, self._settings.http_port)
        ray_dir = self._prepare_dirs()
        try:
            self._start_ray(ray_dir)
            self.apply(config)
        except StartError:
            raise
        except Exception as error:  # Ray raises many types; the log files have the rest
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise StartError(
                f"Ray Serve did not start: {(lines or [type(error).__name__])[-1][:300]}; "
                f"see the logs in {self._settings.state_dir}"
            ) from error
        self._wait_ready()
        if self._settings.most_replicas > self._settings.replicas:
            self._spares.start()

    def _start_ray(self, ray_dir: Path) -> None:
        settings = self._settings
        # Ray Serve reads these when it is imported, here and in every process that Ray starts.
        os.environ.update(_environment(ray_dir))
        import ray
        from ray import serve

        self._started = True  # from here on there may be something to end
        options = {
            "address": "local",
            "num_cpus": settings.most_replicas * settings.cpus_per_replica,
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "log_to_driver": False,
            "logging_level": logging.WARNING,
            "_temp_dir": str(ray_dir),
        }
        try:
            ray.init(**options)
        except Exception as error:
            # Ray gives its own processes 30 s to come up, which a busy machine can miss. Once more, then.
            if "timed out" not in str(error):
                raise
            logger.warning("Ray came up too slowly; this machine is busy. Starting it once more")
            ray.shutdown()
            ray.init(**options)
        logger.info("Ray is up")
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.http_host, "port": settings.http_port},
            logging_config=_LOGGING,
        )
        logger.info("Ray Serve and HAProxy are up; loading models")

    def apply(self, config: ServingConfig) -> None:
        """Serve these models from now on. Replicas load in the background and keep the old ones meanwhile."""
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        # The same config as Kubernetes gets. `serve.run` would restart the replicas instead.
        _get_global_client().deploy_apps(ServeDeploySchema(**_deploy_config(self._settings, config)))

    def stop(self) -> None:
        """End everything that `start` started."""
        if self._started:
            import ray
            from ray import serve

            self._spares.stop()
            if ray.is_initialized():  # else Serve would start another Ray to shut itself down
                with contextlib.suppress(Exception):  # Ray may be half gone; what is left is ended below
                    serve.shutdown()
            ray.shutdown()
            self._started = False
        if self._short_dir is not None:
            logs = self._settings.state_dir / "logs"
            shutil.rmtree(logs, ignore_errors=True)
            with contextlib.suppress(OSError, shutil.Error):  # logs are a convenience
                shutil.copytree(self._short_dir / "session_latest" / "logs", logs)
            shutil.rmtree(self._short_dir, ignore_errors=True)

    def _prepare_dirs(self) -> Path:
        state_dir = self._settings.state_dir
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"state_dir {state_dir}: cannot be made ({error.strerror})") from error
        if len(os.fsencode(state_dir)) <= _MAX_RAY_DIR_BYTES:
            return state_dir
        self._short_dir = Path(tempfile.mkdtemp(prefix="fg-", dir="/tmp"))
        return self._short_dir

    def _wait_ready(self) -> None:
        from ray import serve

        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            app = serve.status().applications.get(APP_NAME)
            if app is not None and app.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise StartError(f"replicas did not start: {_last_line(app)}")
            if app is not None and app.status == "RUNNING" and self._answers():
                return
            time.sleep(_POLL_S)
        raise StartError(
            f"no answer from {self.url} after {_READY_TIMEOUT_S:.0f} s; see {self._settings.state_dir}"
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=5.0) as response:
                return bool(json.load(response)["models"])
        except (OSError, ValueError):
            return False


def check_port_free(host: str, port: int) -> None:
    """Raise StartError when nothing can listen there, before half of Ray is up."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(
                f"http_port {port} on {host}: {error.strerror}; stop what uses it or choose another http_port"
            ) from error


_LOGGING = {"log_level": "WARNING", "enable_access_log": False}


def _environment(ray_dir: Path) -> dict[str, str]:
    haproxy_dir = ray_dir / "h"
    haproxy_dir.mkdir(exist_ok=True)
    metrics_port, stats_port, fallback_http, fallback_grpc = free_ports(4)
    http_ports = free_port_range(2 * _REPLICA_PORTS)
    grpc_ports = http_ports + _REPLICA_PORTS
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        # A token of this start alone, instead of one that Ray would keep in the home folder.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Workers that wait for work import ahead what a replica needs.
        "RAY_preload_python_modules": "framegrid_serve.worker_preload",
        # Replicas are the work of this machine, not its background: Ray would run them at nice 15.
        "RAY_worker_niceness": "0",
        # Libraries that would otherwise start a thread for each core of the machine in every process.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # A client that sends nothing for a minute is gone; Ray's default holds its place for an hour.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy_dir / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy_dir / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy_dir / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http_ports),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http_ports + _REPLICA_PORTS - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc_ports),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc_ports + _REPLICA_PORTS - 1),
        # On a busy machine a proxy takes longer than Ray's 5 s to come up, and was killed half way.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
        # Frames take well under a second; the 30 s default only delays the stop.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def free_ports(count: int) -> list[int]:
    """That many ports which are free now, all different, where outgoing connections are never put.

    The kernel's own pick would be among the ports of outgoing connections, and one of those may have it by
    the time HAProxy listens, tens of seconds later. Raises StartError when nearly all are taken.
    """
    found: list[int] = []
    for port in random.sample(_PICKABLE_PORTS, len(_PICKABLE_PORTS)):
        if len(found) == count:
            return found
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    raise StartError(f"expected {count} free ports in {_PICKABLE_PORTS}, got {len(found)}; stop some servers")


def free_port_range(count: int) -> int:
    """First port of a range that is mostly free; Ray skips the few ports in it that are taken."""
    return random.choice(_PICKABLE_PORTS[: len(_PICKABLE_PORTS) - count])


def _deploy_config(settings: NodeSettings, config: ServingConfig) -> dict[str, Any]:
    return {
        "applications": [
            {
                "name": APP_NAME,
                "route_prefix": "/",
                "import_path": "framegrid_serve.app:build_app",
                "args": settings.replica_args,
                "logging_config": _LOGGING,
                "deployments": [
                    {
                        "name": "detector",
                        "user_config": config.model_dump(mode="json"),
                        # A fixed number too: the policy then says what it would be.
                        "autoscaling_config": settings.autoscaling.config(
                            settings.replicas, settings.most_replicas
                        ),
                    }
                ],
            }
        ]
    }


def _last_line(app: Any) -> str:
    """The last line of what went wrong: Ray puts a whole traceback there."""
    texts = [app.message, *(deployment.message for deployment in app.deployments.values())]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line]
    return str((told or lines or ["no reason given"])[-1])
