"""The small YOLO of `street-sim`: built, trained and exported with Ultralytics (AGPL-3.0) and torch.

The network is YOLO11 with two thirds of the width of YOLO11n and a smaller box head. The loop is ours because
the task and the machine are small: crops where the objects are instead of whole frames, bfloat16 where the
CPU has it, a schedule by the clock instead of epochs. One process of one thread per core, gradients averaged
each step: the many small layers leave a second thread mostly waiting at barriers (measured: two processes 25
images/s, two threads 10, on a busy machine). Needs the `workshop` extra; only `train.py` imports this.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from framegrid_sim.dataset import Sample, decode_sample
from framegrid_sim.shapes import Image
from framegrid_sim.truth import CLASSES

logger = logging.getLogger(__name__)

WIDTH = 0.17  # YOLO11n has 0.25; gives 5.5 MB of float32
BOX_BINS = 8  # of each box edge's distribution (YOLO11: 16): edges up to 7 strides away, 224 pixels
FRAME_SHAPE = (256, 416)  # height, width: 16:9 at 416, rounded up to the network's stride of 32
CROP_SHAPE = (192, 320)  # what training looks at: more objects for the same pixels
BATCH = 8  # per process
LEARNING_RATE = 2e-3
CONTINUED_LEARNING_RATE = 8e-4  # from where a trained network goes on
WARMUP_STEPS = 150
PERSON = CLASSES.index("person")
# Objects more hidden than this are not shown to the network as objects.
LABEL_VISIBLE_SHARE = 0.3
# Ultralytics' own gains of the three losses.
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)


def build_model() -> Any:
    """A fresh network with random weights."""
    spec = dict(_yolo11_spec())
    spec["scales"] = {"n": [0.5, WIDTH, 1024]}
    spec["scale"] = "n"
    spec["nc"] = len(CLASSES)
    spec["reg_max"] = BOX_BINS
    model = DetectionModel(spec, ch=3, nc=len(CLASSES), verbose=False)
    model.args = GAINS
    model.names = dict(enumerate(CLASSES))
    return model


@dataclass(frozen=True)
class Plan:
    """A training run. Both callables are used in the processes that train, so they must be picklable."""

    # The training set; asked again after every pass through it, so that it may grow meanwhile.
    samples: Callable[[], list[Sample]]
    # Gets the averaged (EMA) network and the minutes trained: every so often, and at the end last.
    on_checkpoint: Callable[[Any, float], None]
    minutes: float
    processes: int = 2
    checkpoint_minutes: float = 10.0
    start_from: Path | None = None  # weights that `save_weights` wrote; None: random ones
    seed: int = 0


def train(plan: Plan) -> None:
    """Train a network by the plan; what comes of it goes to `plan.on_checkpoint`."""
    with tempfile.TemporaryDirectory(prefix="street-sim-") as folder:
        torch.multiprocessing.spawn(_train_process, args=(plan, f"{folder}/meet"), nprocs=plan.processes)


def _train_process(rank: int, plan: Plan, meeting_file: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{meeting_file}", rank=rank, world_size=plan.processes
    )
    torch.manual_seed(plan.seed)
    model, earlier_minutes = build_model(), 0.0
    if plan.start_from:
        kept = torch.load(plan.start_from, weights_only=True)
        model.load_state_dict(kept["weights"])
        earlier_minutes = kept["minutes"]
    model = model.train().to(memory_format=torch.channels_last)
    base_rate = CONTINUED_LEARNING_RATE if plan.start_from else LEARNING_RATE
    average = copy.deepcopy(model).eval()
    loss_of = v8DetectionLoss(model)
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=base_rate)
    started = last_checkpoint = time.monotonic()
    batches = _prefetch(_batches(plan.samples, plan.seed * 100 + rank))
    for step, batch in enumerate(batches):
        parts = _gradients(model, loss_of, batch)
        elapsed = time.monotonic() - started
        gone = elapsed / (plan.minutes * 60) if rank == 0 else 0.0
        share = _average_gradients(model, gone, plan.processes)
        if share >= 1:
            break
        rate = base_rate * _schedule(step, share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if rank == 0:
            _update_average(average, model, step + 1)
            if step % 50 == 0:
                speed = (step + 1) * BATCH * plan.processes / max(elapsed, 1e-3)
                logger.info("step %d, %.1f min, %.1f images/s, loss %s", step, elapsed / 60, speed, parts)
            if time.monotonic() - last_checkpoint > plan.checkpoint_minutes * 60:
                plan.on_checkpoint(copy.deepcopy(average).float(), earlier_minutes + elapsed / 60)
                last_checkpoint = time.monotonic()
    batches.close()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if rank == 0:
        plan.on_checkpoint(average, earlier_minutes + plan.minutes)


def _schedule(step: int, share: float) -> float:
    """The learning rate's factor: up by steps, then down a cosine by the share of the time that is gone."""
    cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2
    return cosine * min(1.0, (step + 1) / WARMUP_STEPS)


def _gradients(model: Any, loss_of: Any, batch: dict[str, Any]) -> dict[str, float]:
    """Forward and backward of one batch; the losses, for the log."""
    image = batch.pop("img").float().div_(255).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(image)
    out = {k: v.float() if isinstance(v, torch.Tensor) else [f.float() for f in v] for k, v in out.items()}
    loss, parts = loss_of(out, batch)
    model.zero_grad(set_to_none=True)
    loss.sum().backward()
    return {name: round(float(value), 3) for name, value in parts.items()}


def _average_gradients(model: Any, share: float, processes: int) -> float:
    """Average gradients over the processes; returns rank 0's share of the time, so that all stop at one
    step."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads] + [torch.tensor([share * processes])])
    torch.distributed.all_reduce(flat)
    flat /= processes
    start = 0
    for grad in grads:
        grad.copy_(flat[start : start + grad.numel()].view_as(grad))
        start += grad.numel()
    return float(flat[-1])


def save_weights(model: Any, minutes: float, path: Path) -> None:
    """Keep the network's weights and the minutes it took, for a later run to go on from."""
    torch.save({"weights": model.state_dict(), "minutes": minutes}, path)


def export_onnx(model: Any, path: Path) -> None:
    """Write the network as ONNX, float32, with dynamic batch, height and width."""
    model = copy.deepcopy(model).float().eval()
    model.args = {"imgsz": max(FRAME_SHAPE), "task": "detect"}
    checkpoint = path.with_suffix(".pt")
    torch.save({"model": model, "train_args": {}, "epoch": -1}, checkpoint)
    # opset 17 is read by every OpenVINO and ONNX Runtime that the serve image may hold.
    written = YOLO(checkpoint).export(
        format="onnx", imgsz=FRAME_SHAPE, dynamic=True, simplify=False, opset=17, device="cpu", verbose=False
    )
    checkpoint.unlink()
    Path(written).replace(path)


def _yolo11_spec() -> dict[str, Any]:
    from ultralytics.nn.tasks import yaml_model_load

    spec: dict[str, Any] = yaml_model_load("yolo11n.yaml")
    return spec


def _parameter_groups(model: Any) -> list[dict[str, Any]]:
    decayed: list[Any] = []
    free: list[Any] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else free).append(parameter)
    return [{"params": decayed, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0.0}]


def _update_average(average: Any, model: Any, step: int) -> None:
    decay = 0.9995 * (1 - math.exp(-step / 800))
    with torch.no_grad():
        state = model.state_dict()
        for name, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value.mul_(decay).add_(state[name].detach(), alpha=1 - decay)
            else:
                value.copy_(state[name])


def _batches(samples: Callable[[], list[Sample]], seed: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng((seed, 5))
    while True:
        pool = samples()
        order = rng.permutation(len(pool))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield _batch([_augment(pool[k], rng) for k in order[start : start + BATCH]])


def _batch(items: list[tuple[Image, NDArray[np.float32], NDArray[np.int64]]]) -> dict[str, Any]:
    h, w = CROP_SHAPE
    images = np.stack([image for image, _, _ in items])[..., ::-1]  # BGR -> RGB
    index = np.concatenate([np.full(len(boxes), k) for k, (_, boxes, _) in enumerate(items)])
    boxes = np.concatenate([boxes for _, boxes, _ in items]) / np.array([w, h, w, h], np.float32)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return {
        "img": torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        "batch_idx": torch.from_numpy(index).float(),
        "cls": torch.from_numpy(np.concatenate([ids for _, _, ids in items])).float()[:, None],
        "bboxes": torch.from_numpy(np.concatenate([centres, sizes], axis=1)).float(),
    }


def _augment(
    sample: Sample, rng: np.random.Generator
) -> tuple[Image, NDArray[np.float32], NDArray[np.int64]]:
    """Mirror, scale, crop and recolour one frame; boxes in pixels of CROP_SHAPE."""
    image, boxes = decode_sample(sample, FRAME_SHAPE[1], FRAME_SHAPE[0])
    keep = sample.labels.visible >= LABEL_VISIBLE_SHARE
    boxes, ids, visible = boxes[keep], sample.labels.class_ids[keep], sample.labels.visible[keep]
    h, w = CROP_SHAPE
    scale = float(np.exp(rng.uniform(math.log(0.8), math.log(1.3)))) if rng.random() < 0.7 else 1.0
    if len(boxes) and rng.random() < 0.8:  # look where something is, and most where it is half hidden
        weights = np.where((visible < 0.75) & (ids == PERSON), 3.0, 1.0)
        box = boxes[int(rng.choice(len(boxes), p=weights / weights.sum()))]
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.3, 0.3, 2) * (w, h)
    else:
        centre = rng.uniform(0.2, 0.8, 2) * (FRAME_SHAPE[1], FRAME_SHAPE[0])
    # Not further out than the frame reaches.
    half = np.array([w, h]) / 2 / scale
    low, high = half, np.array([FRAME_SHAPE[1], FRAME_SHAPE[0]]) - half
    centre = np.where(low < high, np.clip(centre, low, high), (low + high) / 2)
    mirror = -1 if rng.random() < 0.5 else 1
    matrix = np.array([
        [mirror * scale, 0, w / 2 - mirror * scale * centre[0]], [0, scale, h / 2 - scale * centre[1]],
    ])  # fmt: skip
    image = cv2.warpAffine(image, matrix, (w, h), borderValue=(114, 114, 114))
    ends = boxes.reshape(-1, 2, 2) * matrix[[0, 1], [0, 1]] + matrix[:, 2]
    full = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
    cut = np.clip(full, 0, [w, h, w, h])
    inside = _areas(cut) > 0.4 * _areas(full)
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
    image = cv2.convertScaleAbs(cv2.multiply(image, (*gain.tolist(), 1.0)), beta=float(rng.uniform(-12, 12)))
    return image, cut[inside].astype(np.float32), ids[inside]


def _areas(boxes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    areas: NDArray[np.floating[Any]] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _prefetch(batches: Iterator[dict[str, Any]]) -> Generator[dict[str, Any], None, None]:
    """Prepare batches in a thread while the network learns (OpenCV releases the interpreter's lock).

    The thread ends when the generator is closed.
    """
    queue: Queue[dict[str, Any] | Exception] = Queue(maxsize=4)
    stop = threading.Event()

    def put(item: dict[str, Any] | Exception) -> None:
        while not stop.is_set():
            with contextlib.suppress(Full):
                queue.put(item, timeout=0.5)
                return

    def fill() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
        except Exception as error:  # noqa: BLE001  raised again where the batch was wanted
            put(error)

    thread = threading.Thread(target=fill, name="batches")
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
