"""What the bench runs on: a video, weights, and the bundle exported from them.

A folder of test data (FRAMEGRID_TEST_DATA, or ../shared/data beside the checkout) is used where it is;
elsewhere the official weights are fetched and the video is simulated.
"""

from __future__ import annotations

import os
from pathlib import Path

import av
from framegrid_serve.bundle import load_bundle, rect_shape

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framegrid" / "bench"
DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
# 128 train and 128 val pictures with labels.
COCO = DATA / "coco128"
# One person at a time walks through the picture; counted by eye.
VISITS = DATA / "videos" / "one-by-one-person-detection.mp4"
VISITS_TRUE = 6


def video() -> Path:
    """A recording in H.264."""
    return VISITS if VISITS.exists() else _simulated()


def _simulated() -> Path:
    """A street at 1080p, made once."""
    from framegrid_local.bench.sampling import write_video

    path = CACHE / "street.mp4"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path)
    return path


def video_1080p() -> Path:
    """A recording of 1920x1080."""
    given = DATA / "videos" / "dg_TrafficHD_short.mp4"
    return given if given.exists() else _simulated()


def weights() -> Path:
    """YOLO11n in PyTorch's format."""
    given = DATA / "weights" / "yolo11n-rebuilt.pt"
    if given.exists():
        return given
    from ultralytics.utils.downloads import attempt_download_asset

    CACHE.mkdir(parents=True, exist_ok=True)
    return Path(attempt_download_asset(str(CACHE / "yolo11n.pt")))


def bundle(weights_path: Path, input_size: int) -> Path:
    """The same weights as Framegrid serves them; exported once."""
    folder = CACHE / f"{weights_path.stem}-{input_size}"
    if not (folder / "model.yaml").exists():
        from framegrid_serve.workshop import import_pt

        folder.parent.mkdir(parents=True, exist_ok=True)
        import_pt(weights_path, folder, "yolo11n", input_size=input_size)
    return folder


def weights_of(folder: Path) -> Path:
    """The file that OpenVINO opens."""
    return load_bundle(folder).weights_path


def frame_rate(path: Path) -> float:
    """Frames a second of a video file."""
    with av.open(str(path)) as container:
        return float(container.streams.video[0].average_rate)


def network_shape(path: Path, input_size: int) -> tuple[int, int]:
    """Height and width of the network's input for this video."""
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        return rect_shape(codec.height, codec.width, input_size)
