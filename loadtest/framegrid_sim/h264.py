"""A clip as H.264: in a container for files, or as bare access units for RTSP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import simplejpeg

from framegrid_sim.clip import Clip

CRF = 21  # x264's constant quality: no artefacts that the JPEGs do not have already


class EncodeError(RuntimeError):
    """The clip cannot be encoded; the message says what to change."""


@dataclass(frozen=True)
class AccessUnits:
    """One pass of a clip as an Annex B byte stream: a unit per frame, parameter sets at keyframes."""

    units: list[bytes]
    keyframes: list[bool]


def encode_file(clip: Clip, path: Path, gop: int) -> None:
    """Write an H.264 file; its suffix names the container. `gop`: frames from one keyframe to the next."""
    with av.open(str(path), "w") as container:
        stream = _add_stream(container, clip, gop)
        for frame in _frames(clip):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def copy_file(clip: Clip, path: Path) -> None:
    """Write the JPEGs themselves, bit for bit, as a Motion JPEG file; its suffix names the container."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=_rate(clip))
        stream.width, stream.height = clip.settings.width, clip.settings.height
        stream.pix_fmt = "yuvj420p"
        time_base = 1 / _rate(clip)
        for i, jpeg in enumerate(clip.jpegs):
            packet = av.Packet(jpeg)
            packet.stream, packet.time_base = stream, time_base
            packet.pts = packet.dts = i
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)


def encode_units(clip: Clip, gop: int) -> AccessUnits:
    """Encode one pass so that it can be looped: it begins with a keyframe, and nothing refers forward."""
    codec: Any = av.CodecContext.create("libx264", "w")
    _configure(codec, clip, gop)
    codec.framerate, codec.time_base = _rate(clip), 1 / _rate(clip)
    packets = [p for frame in _frames(clip) for p in codec.encode(frame)]
    packets += codec.encode(None)
    if len(packets) != clip.frame_count:
        raise EncodeError(f"expected {clip.frame_count} access units, got {len(packets)}")
    return AccessUnits([bytes(p) for p in packets], [bool(p.is_keyframe) for p in packets])


def _add_stream(container: Any, clip: Clip, gop: int) -> Any:
    if "libx264" not in av.codecs_available:
        raise EncodeError("expected PyAV with libx264, got one without; install the wheel of `av` from PyPI")
    stream = container.add_stream("libx264", rate=_rate(clip))
    _configure(stream, clip, gop)
    return stream


def _configure(codec: Any, clip: Clip, gop: int) -> None:
    """Settings of a surveillance camera's encoder: no B-frames, keyframes at fixed distances."""
    width, height = clip.settings.width, clip.settings.height
    if width % 2 or height % 2:
        raise EncodeError(f"expected an even width and height for H.264, got {width}x{height}")
    if gop < 1:
        raise EncodeError(f"expected gop of 1 frame or more, got {gop}")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.options = {
        "preset": "veryfast",
        "tune": "zerolatency",
        "crf": str(CRF),
        "g": str(gop),
        "keyint_min": str(gop),
        "sc_threshold": "0",
        "bf": "0",
        "threads": "1",
    }


def _frames(clip: Clip) -> Iterator[Any]:
    time_base = 1 / _rate(clip)
    for i, jpeg in enumerate(clip.jpegs):
        frame = av.VideoFrame.from_ndarray(simplejpeg.decode_jpeg(jpeg, colorspace="RGB"), format="rgb24")
        frame.pts, frame.time_base = i, time_base
        yield frame


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.fps).limit_denominator(1001)
