"""What a slowly sampled 1080p camera costs: keyframes only, against decoding everything.

Reads a synthetic 1080p25 H.264 recording (a keyframe every 2 s, as cameras send by default) with ingest's own
reader, one frame sampled per 5 s, and counts CPU seconds of this process. A live camera costs this much per
second of its stream.
"""

from __future__ import annotations

import fractions
import tempfile
import time
from pathlib import Path

import av
import yaml
from framegrid_ingest.config import parse_cameras
from framegrid_ingest.pictures import to_jpeg
from framegrid_ingest.recordings.frames import SampledFrames
from framegrid_sim.scene import Scene
from framegrid_sim.settings import SceneSettings

WIDTH, HEIGHT, FPS = 1920, 1080, 25
SECONDS = 40
KEYFRAME_EVERY_S = 2
SAMPLED_FPS = 0.2
BIT_RATE = 4_000_000  # a usual setting of 1080p cameras


def measure_sampling() -> dict[str, float]:
    """Cameras per core in both ways, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="fg-bench-") as folder:
        video = Path(folder) / "camera.mp4"
        write_video(video)
        costs = {decode: _cpu_s_per_stream_s(video, decode) for decode in ("auto", "all")}
    return {
        "cameras_per_core": round(1.0 / costs["auto"], 1),
        "cameras_per_core_full_decoding": round(1.0 / costs["all"], 1),
        "ratio": round(costs["all"] / costs["auto"], 2),
    }


def write_video(path: Path) -> None:
    """A simulated street as a 1080p25 camera would record it."""
    scene = Scene(SceneSettings(seed=7, width=WIDTH, height=HEIGHT, fps=FPS, duration_s=SECONDS))
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "g": str(FPS * KEYFRAME_EVERY_S), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BIT_RATE
        stream.time_base = fractions.Fraction(1, FPS)
        for index in range(SECONDS * FPS):
            frame = av.VideoFrame.from_ndarray(scene.frame(index), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _cpu_s_per_stream_s(video: Path, decode: str) -> float:
    entry = {"name": "bench", "url": str(video), "fps": SAMPLED_FPS, "decode": decode}
    text = yaml.safe_dump({"cameras": [{**entry, "pace": "fast", "loop": False}]})
    (camera,) = parse_cameras(text, "bench", {})
    started = time.process_time()
    frames = SampledFrames(camera, is_recording=True)
    taken = sum(len(to_jpeg(frame.picture, 640).data) > 0 for frame in frames)
    elapsed = time.process_time() - started
    expected = SECONDS * SAMPLED_FPS
    if taken < expected - 1:
        raise RuntimeError(f"expected about {expected:.0f} sampled frames, got {taken}")
    return elapsed / SECONDS
