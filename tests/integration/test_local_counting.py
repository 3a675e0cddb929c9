"""Counting with real detectors: a real video, and a rendered street through the packaged model."""

from __future__ import annotations

import os
from pathlib import Path

import framegrid_serve
import pytest
from framegrid_local.accuracy import count_visits, score_clips
from framegrid_serve.bundle import load_bundle
from framegrid_serve.detector import Detector
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.workshop import import_pt
from framegrid_sim.settings import SceneSettings

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("FRAMEGRID_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WEIGHTS = DATA / "weights" / "yolo11n-rebuilt.pt"
VIDEO = DATA / "videos" / "one-by-one-person-detection.mp4"
STREET_SIM = Path(framegrid_serve.__file__).parent / "models" / "street-sim"


@pytest.mark.workshop
@pytest.mark.filterwarnings("ignore::FutureWarning:torch.*")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_six_visits_of_one_person_at_a_time_are_six(tmp_path: Path) -> None:
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    pytest.importorskip("ultralytics", reason="needs the extra `workshop` (Ultralytics, torch)")
    for path in (WEIGHTS, VIDEO):
        if not path.is_file():
            pytest.skip(f"needs {path}; set FRAMEGRID_TEST_DATA")
    bundle = import_pt(WEIGHTS, tmp_path / "yolo11n", "yolo11n")
    detector = Detector(bundle, EngineSettings(threads=2, shapes=4, engine="openvino"))
    try:
        assert count_visits(VIDEO, detector) == 6
    finally:
        detector.close()


def test_a_rendered_street_is_counted_right_with_the_packaged_model(tmp_path: Path) -> None:
    street = SceneSettings(seed=79_900, duration_s=60, persons_per_minute=14, vehicles_per_minute=12)
    detector = Detector(load_bundle(STREET_SIM))
    try:
        [score] = score_clips({"street": street}, detector, tmp_path)
    finally:
        detector.close()
    assert score.counts["unique person"].true >= 10
    assert score.counts["unique vehicle"].true >= 10
    for measure, count in score.counts.items():
        # One is more than a tenth of so few.
        assert abs(count.counted - count.true) <= max(1, count.true / 10), (measure, count)
