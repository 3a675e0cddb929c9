"""`framegrid serve status`: how many replicas, why so many, and what keeps them from being more or fewer."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framegrid_serve.activation import running_serve

from framegrid_local.errors import LocalError, UsageError

_TIMEOUT_S = 10.0
# The controller reports every 2 s; clocks of other nodes may be off by some.
_OLD_S = 15.0
_SHOWN_CHANGES = 3
_LIMITS = {
    "max_replicas": "max_replicas keeps it from more",
    "min_replicas": "min_replicas keeps it from fewer",
    "max_step_up": "max_step_up: at most so many at once, more follow",
    "max_step_down": "max_step_down: at most so many at once, more follow",
}


def fetch(url: str) -> list[dict[str, Any]]:
    """Reports of all deployments of the Serve at `url`. Raises LocalError."""
    address = url.rstrip("/") + "/v1/autoscaling"
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"--url: expected http://HOST:PORT, got {url!r}")
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            told = json.load(response)
        return [dict(report) for report in told["deployments"]]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise LocalError(f"{url}: expected to hear of autoscaling, got an older Framegrid") from None
        raise LocalError(f"{url}: expected status 200, got {error.code}; see the log of serve") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        raise LocalError(f"{url}: expected serve to answer, got {reason}; is it there, and up?") from None


def local_url(state_dir: Path) -> str:
    """Where the serve of this machine listens. Raises LocalError."""
    found = running_serve(state_dir / "serve")
    if found is None:
        raise LocalError(
            f"expected a running serve in {state_dir}, got none; start `framegrid up`, "
            "or give --state-dir or --url"
        )
    return found.url


def lines(report: Mapping[str, Any], now_s: float) -> list[str]:
    """One deployment in plain words."""
    low, high = report["min_replicas"], report["max_replicas"]
    allowed = f"{low} to {high} allowed" if low != high else f"a fixed number, {low}"
    found = [
        f"{report['deployment']} ({report['application']})",
        f"  replicas      {report['running']} run, {report['target']} ordered; {allowed}",
    ]
    if report["silent_replicas"]:
        found.append(f"                {report['silent_replicas']} of them have not said lately what they do")
    found += _load(report)
    found.append(f"  needed        {report['needed']}; {report['reason']}")
    if report["limit"]:
        found.append(f"  limit         {_LIMITS[report['limit']]}")
    found.append(f"  next change   {_next(report)}")
    for change in reversed(report["changes"][-_SHOWN_CHANGES:]):
        ago = _ago(report["at_s"] - change["at_s"])
        found.append(
            f"  changed       {change['before']} -> {change['after']}, {ago} before: {change['reason']}"
        )
    if now_s - report["at_s"] > _OLD_S:
        found.append(f"  These figures are {_ago(now_s - report['at_s'])} old: Serve's controller is away.")
    return found


def _load(report: Mapping[str, Any]) -> list[str]:
    if report["offered_fps"] is None:
        return ["  offered       not known yet"]
    found = [f"  offered       {report['offered_fps']:.1f} frames/s"]
    if report["dropped_fps"]:
        found[0] += f"; {report['dropped_fps']:.1f} of them are dropped"
    if report["service_s"]:
        found.append(
            f"  service time  {report['service_s'] * 1e3:.1f} ms a frame; "
            f"{report['replica_fps']:.1f} frames/s fill a replica"
        )
    found.append(
        f"  utilisation   {report['utilisation']:.0%}; the target is {report['target_utilisation']:.0%}"
    )
    return found


def _next(report: Mapping[str, Any]) -> str:
    desired, running, target = report["desired"], report["running"], report["target"]
    if desired != target:
        delay = "upscale_delay_s" if desired > target else "downscale_delay_s"
        return f"to {desired}, when wanted for {report[delay]:g} s ({delay})"
    return f"{target - running} more are starting" if running < target else "none"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def run_status(url: str, state_dir: Path, *, as_json: bool) -> int:
    """Print it. Exit status 0, or LocalError."""
    reports = fetch(url or local_url(state_dir))
    if as_json:
        print(json.dumps(reports))
        return 0
    if not reports:
        print("Serve runs; its autoscaling has not reported yet. Try again in a few seconds.")
    for report in reports:
        print("\n".join(lines(report, time.time())))
    return 0
