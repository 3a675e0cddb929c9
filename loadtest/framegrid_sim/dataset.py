"""Labelled frames of many streets, for training and for held-out evaluation.

Each seed is another street: camera, buildings, light, weather, traffic. Frames take the way of a real one:
rendered, JPEG by the camera, scaled to the model's input and JPEG again on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings
from framegrid_sim.shapes import Image
from framegrid_sim.truth import CLASSES

# Seeds of training and of held-out streets never meet: a street is used on one side only.
TRAIN_SEEDS = range(100_000, 200_000)
HELD_OUT_SEEDS = range(900_000, 910_000)
INPUT_SIZE = 416  # pixels, the longer side
WIRE_QUALITY = 90


@dataclass(frozen=True)
class Labels:
    """Objects of one frame. `ignore` marks those too hidden or too small to be asked for."""

    boxes_xyxy: NDArray[np.float32]  # (n, 4) relative
    class_ids: NDArray[np.int64]  # (n,)
    ignore: NDArray[np.bool_]  # (n,)
    visible: NDArray[np.float32]  # (n,)


@dataclass(frozen=True)
class Sample:
    jpeg: bytes  # the longer side INPUT_SIZE pixels
    labels: Labels


def varied_settings(seed: int) -> SceneSettings:
    """A street with everything varied by the seed: light, rain, noise, crowds, the picture's shape."""
    rng = np.random.default_rng((seed, 77))
    return SceneSettings(
        seed=seed,
        width=640,
        height=480 if rng.random() < 0.12 else 360,
        duration_s=30.0,
        light=("day", "dusk", "night")[int(rng.choice(3, p=[0.45, 0.25, 0.3]))],  # type: ignore[arg-type]
        rain=bool(rng.random() < 0.3),
        noise=float(rng.uniform(0, 8)),
        persons_per_minute=float(rng.uniform(6, 60)),
        vehicles_per_minute=float(rng.uniform(10, 64)),
        bicycle_share=float(rng.uniform(0.1, 0.45)),
        group_share=float(rng.uniform(0.2, 0.7)),
        stop_and_go=bool(rng.random() < 0.7),
        pauses=0.15,
    )


def render_samples(seed: int, frames: int) -> list[Sample]:
    """Some frames of one street, at moments picked by the seed."""
    settings = varied_settings(seed)
    scene = Scene(settings)
    rng = np.random.default_rng((seed, 78))
    moments = rng.choice(settings.frame_count, size=min(frames, settings.frame_count), replace=False)
    samples = []
    for i in moments.tolist():
        picture = simplejpeg.encode_jpeg(
            scene.frame(i), quality=int(rng.integers(60, 96)), colorspace="BGR", fastdct=False
        )
        samples.append(Sample(to_wire(picture), labels_of(scene, i)))
    return samples


def to_wire(camera_jpeg: bytes, input_size: int = INPUT_SIZE) -> bytes:
    """A camera's JPEG as it goes to the model: scaled to the input size (never enlarged), JPEG again."""
    image = simplejpeg.decode_jpeg(camera_jpeg, colorspace="BGR")
    h, w = image.shape[:2]
    scale = min(1.0, input_size / max(h, w))
    if scale < 1:
        image = cv2.resize(image, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(image, quality=WIRE_QUALITY, colorspace="BGR", fastdct=False)  # type: ignore[no-any-return]


def labels_of(scene: Scene, frame_index: int) -> Labels:
    objects = scene.truth(frame_index).objects
    return Labels(
        boxes_xyxy=np.array([o.box_xyxy for o in objects], np.float32).reshape(-1, 4),
        class_ids=np.array([CLASSES.index(o.cls) for o in objects], np.int64),
        ignore=np.array([not o.countable for o in objects], bool),
        visible=np.array([o.visible_share for o in objects], np.float32),
    )


def render_set(folder: Path, seeds: range, frames_per_seed: int, workers: int) -> None:
    """Render every seed's samples into `folder`, one file a seed; those there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not (folder / f"{seed}.npz").exists()]
    if workers <= 1:
        for seed in missing:
            _render_file(folder, seed, frames_per_seed)
        return
    with ProcessPoolExecutor(workers) as pool:
        for future in [pool.submit(_render_file, folder, seed, frames_per_seed) for seed in missing]:
            future.result()


def read_set(folder: Path) -> Iterator[Sample]:
    """The samples that `render_set` wrote, in the order of the seeds."""
    for path in sorted(p for p in folder.glob("*.npz") if ".partial" not in p.name):
        with np.load(path) as data:
            for k in range(int(data["count"])):
                yield Sample(
                    data[f"jpeg{k}"].tobytes(),
                    Labels(data[f"boxes{k}"], data[f"classes{k}"], data[f"ignore{k}"], data[f"visible{k}"]),
                )


def letterbox(image: Image, width: int, height: int) -> tuple[Image, float, int, int]:
    """Fit an image into width x height, centred on grey 114, never enlarged: image, scale, left, top."""
    h, w = image.shape[:2]
    scale = min(1.0, width / w, height / h)
    if scale < 1:
        image = cv2.resize(image, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
    h, w = image.shape[:2]
    left, top = (width - w) // 2, (height - h) // 2
    out = np.full((height, width, 3), 114, np.uint8)
    out[top : top + h, left : left + w] = image
    return out, scale, left, top


def _render_file(folder: Path, seed: int, frames: int) -> None:
    cv2.setNumThreads(1)
    arrays: dict[str, NDArray[np.generic]] = {}
    samples = render_samples(seed, frames)
    for k, sample in enumerate(samples):
        arrays[f"jpeg{k}"] = np.frombuffer(sample.jpeg, np.uint8)
        arrays[f"boxes{k}"], arrays[f"classes{k}"] = sample.labels.boxes_xyxy, sample.labels.class_ids
        arrays[f"ignore{k}"], arrays[f"visible{k}"] = sample.labels.ignore, sample.labels.visible
    partial = folder / f"{seed}.partial.npz"
    np.savez(partial, count=np.array(len(samples)), **arrays)  # type: ignore[arg-type]
    partial.rename(folder / f"{seed}.npz")


def decode_sample(sample: Sample, width: int, height: int) -> tuple[Image, NDArray[np.float32]]:
    """The letterboxed picture (height, width, 3) BGR and its boxes in pixels of it."""
    image = simplejpeg.decode_jpeg(sample.jpeg, colorspace="BGR")
    h, w = image.shape[:2]
    out, scale, left, top = letterbox(image, width, height)
    boxes = sample.labels.boxes_xyxy * (np.array([w, h, w, h]) * scale) + (left, top, left, top)
    return out, boxes.astype(np.float32)
