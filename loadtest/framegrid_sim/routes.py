"""Which answer a request gets. Streams, resets and silence are answers too."""

from __future__ import annotations

import base64
import hmac
import time
from dataclasses import dataclass
from typing import Any

from framegrid_sim.faults import Fault, FaultError, FaultKind, parse_fault
from framegrid_sim.feed import BOUNDARY, Feed
from framegrid_sim.http1 import Request, Response, error_response, json_response
from framegrid_sim.page import index_page
from framegrid_sim.report import WindowError, camera_json, parse_window, truth_json
from framegrid_sim.site import Channel, Site

STREAM_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
_NO_VIDEO = b"<!doctype html><title>Camera</title><p>Please log in to see the live view.</p>\n"
_MEDIA = ("stream.mjpg", "frame.jpg")


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """Send the headers of a stream, then its frames until somebody hangs up."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ResetAnswer:
    """End the connection by TCP reset."""


@dataclass(frozen=True, slots=True)
class SilentAnswer:
    """Keep the connection and say nothing."""


Answer = Response | StreamAnswer | ResetAnswer | SilentAnswer


def answer(site: Site, request: Request) -> Answer:  # noqa: PLR0911 - a table of routes
    """The answer to a request, by path. Never raises for what a client sent."""
    parts = request.path.strip("/").split("/")
    if parts[0] != "cameras" or len(parts) > 3:
        return _site_answer(site, request)
    if len(parts) == 1:
        return json_response(site_json(site, request))
    channel = site.channels.get(parts[1])
    if channel is None:
        names = ", ".join(list(site.channels)[:8])
        return error_response(404, f"expected a camera of this server ({names}), got {parts[1][:80]!r}")
    what = parts[2] if len(parts) == 3 else ""
    if what in _MEDIA:
        return _media_answer(site, channel, request, what)
    if what == "truth":
        return _truth_answer(site, channel.feed, request)
    if what == "fault":
        return _fault_answer(site, channel, request)
    if not what:
        return json_response(_camera_json(site, channel, request))
    return error_response(
        404, f"expected stream.mjpg, frame.jpg, truth or fault of a camera, got {what[:40]!r}"
    )


def site_json(site: Site, request: Request) -> dict[str, Any]:
    return {
        "now_s": site.clock(),
        "start_s": site.start_s,
        "cameras": [_camera_json(site, channel, request) for channel in site.channels.values()],
    }


def _camera_json(site: Site, channel: Channel, request: Request) -> dict[str, Any]:
    rtsp_url = None
    if site.rtsp_port is not None:
        # By the name that the client reached us by: the address listened on may be 0.0.0.0.
        host = request.headers.get("host", "127.0.0.1").removesuffix(f":{site.http_port}")
        rtsp_url = f"rtsp://{host}:{site.rtsp_port}/{channel.feed.name}"
    return camera_json(channel.feed, site.clock(), len(channel.viewers), rtsp_url)


def _site_answer(site: Site, request: Request) -> Response:
    if request.path == "/":
        return Response(200, index_page(list(site.channels)), "text/html; charset=utf-8")
    if request.path == "/healthz":
        return json_response({"status": "ok", "cameras": len(site.channels)})
    if request.path == "/stats":
        return json_response(
            {
                "frames_served": site.totals.frames_served,
                "frames_skipped": site.totals.frames_skipped,
                "bytes_served": site.totals.bytes_served,
                "late_ticks": site.late_ticks,
                "viewers": site.viewer_count,
                "cpu_s": time.process_time(),
                "uptime_s": site.clock() - site.start_s,
            }
        )
    return error_response(404, f"expected /, /cameras, /stats or /healthz, got {request.path[:80]!r}")


def _media_answer(site: Site, channel: Channel, request: Request, what: str) -> Answer:
    now_s = site.clock()
    fault = channel.feed.faults.active(now_s)
    refusal = _refusal(channel.feed, request, fault, now_s)
    if refusal is not None:
        return refusal
    if what == "stream.mjpg":
        return (
            Response(200, b"", STREAM_TYPE, close=True) if request.method == "HEAD" else StreamAnswer(channel)
        )
    frame = channel.feed.frame_at(now_s)
    picture = channel.feed.picture(frame, fault)
    if picture is None:
        return SilentAnswer()
    headers = {"X-Timestamp": f"{channel.feed.time_of(frame):.6f}", "X-Frame": str(frame)}
    return Response(200, picture, "image/jpeg", headers)


def _refusal(feed: Feed, request: Request, fault: Fault | None, now_s: float) -> Answer | None:
    """The answer of a camera that gives no picture; None for one that does."""
    kind = None if fault is None else fault.kind
    if kind is FaultKind.RESET:
        return ResetAnswer()
    if fault is not None and kind is FaultKind.STOP:
        wait_s = max(1, round(fault.until_s - now_s))
        message = f"camera {feed.name} is stopped by a fault for {wait_s} s more"
        return error_response(503, message, **{"Retry-After": str(wait_s)})
    if kind is FaultKind.UNAUTHORIZED or not _is_authorized(feed, request):
        challenge = {"WWW-Authenticate": f'Basic realm="{feed.name}", charset="UTF-8"'}
        return error_response(401, f"expected the user and password of camera {feed.name}", **challenge)
    if kind is FaultKind.NOTVIDEO:
        return Response(200, _NO_VIDEO, "text/html; charset=utf-8", close=True)
    if kind is FaultKind.EMPTY:
        return Response(200, b"", STREAM_TYPE, close=True)
    return None


def _is_authorized(feed: Feed, request: Request) -> bool:
    if feed.spec.auth is None:
        return True
    expected = b"Basic " + base64.b64encode(feed.spec.auth.encode())
    return hmac.compare_digest(expected, request.headers.get("authorization", "").encode("latin-1"))


def _truth_answer(site: Site, feed: Feed, request: Request) -> Response:
    try:
        from_s, to_s = parse_window(
            request.query.get("from"), request.query.get("to"), site.clock(), site.start_s
        )
    except WindowError as error:
        return error_response(400, str(error))
    return json_response(truth_json(feed, from_s, to_s, objects=request.query.get("objects") == "1"))


def _fault_answer(site: Site, channel: Channel, request: Request) -> Response:
    if request.method != "POST":
        message = f"expected POST /cameras/{channel.feed.name}/fault?kind=…&seconds=…, got {request.method}"
        return error_response(405, message, Allow="POST")
    try:
        fault = parse_fault(request.query.get("kind", ""), request.query.get("seconds", "10"), site.clock())
    except FaultError as error:
        return error_response(400, str(error))
    site.set_fault(channel, fault)
    return json_response({"camera": channel.feed.name, "fault": None if fault is None else fault.to_json()})
