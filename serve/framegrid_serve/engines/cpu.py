"""What the processor is good at, and which form of a model therefore runs on it."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Advice:
    """The form of a model that suits a processor."""

    feature: str  # the instructions that decide
    form: str  # int8 | full
    reason: str
    known: bool = True  # False: a processor on which detection is slow


# Best first: kernel's flags, their name, form, why. Times: 640 pixels on one thread, YOLOv8n; AVX2: YOLO11n.
_ADVICE: tuple[tuple[frozenset[str], Advice], ...] = (
    (
        frozenset({"amx_bf16"}),
        Advice("AMX", "full", "OpenVINO computes in bfloat16, faster than INT8 (18 against 22 ms)"),
    ),
    (
        frozenset({"avx512_vnni", "avx_vnni"}),
        Advice("VNNI", "int8", "INT8 takes under half the time of FP32 (22 against 56 ms)"),
    ),
    (
        frozenset({"avx512f"}),
        Advice("AVX-512, no VNNI", "int8", "INT8 takes three quarters of FP32's time (40 against 54 ms)"),
    ),
    (frozenset({"avx2"}), Advice("AVX2", "int8", "INT8 takes two thirds of FP32's time (43 against 68 ms)")),
    (
        frozenset({"asimd"}),
        Advice("NEON (ARM)", "full", "ONNX Runtime is the engine of choice here, at full precision"),
    ),
)
_UNKNOWN = Advice("none of AVX2, AVX-512, AMX", "full", "detection is slow on it", known=False)


def advice(flags: frozenset[str] | None = None) -> Advice:
    """For these flags of the kernel's; without them for this machine."""
    known = cpu_flags() if flags is None else flags
    return next((told for wanted, told in _ADVICE if known & wanted), _UNKNOWN)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """As the kernel names them; empty where it does not (macOS)."""
    for line in _lines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@functools.cache
def cpu_model() -> str:
    """The maker's name of the processor."""
    for line in _lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines() -> list[str]:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
