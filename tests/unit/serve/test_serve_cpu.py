"""Which form of a model runs on which processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from framegrid_serve.bundle import Bundle, Manifest, file_sha256, load_bundle, write_manifest
from framegrid_serve.detector import Detector
from framegrid_serve.engines import choice
from framegrid_serve.engines.base import EngineSettings
from framegrid_serve.engines.cpu import advice
from framegrid_serve.errors import ModelError

MakeBundle = Callable[..., Bundle]


@pytest.mark.parametrize(
    ("flags", "feature", "form"),
    [
        ({"avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8"}, "AMX", "full"),
        ({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, "VNNI", "int8"),
        ({"avx2", "avx_vnni"}, "VNNI", "int8"),
        ({"avx2", "avx512f"}, "AVX-512, no VNNI", "int8"),
        ({"avx2"}, "AVX2", "int8"),
        ({"asimd"}, "NEON (ARM)", "full"),
        ({"sse2"}, "none of AVX2, AVX-512, AMX", "full"),
    ],
    ids=["amx", "vnni", "avx-vnni", "avx512", "avx2", "arm", "old"],
)
def test_the_form_follows_the_processor(flags: set[str], feature: str, form: str) -> None:
    found = advice(frozenset(flags))
    assert (found.feature, found.form) == (feature, form)


@pytest.fixture
def both(make_bundle: MakeBundle) -> Bundle:
    """A bundle of two forms that answer differently, so that a test sees which one runs."""
    import openvino as ov

    outputs = [np.zeros((1, 6, 3), np.float32) for _ in range(2)]
    for output, score in zip(outputs, (0.9, 0.6), strict=True):
        output[0, :5, 0] = [32, 32, 16, 16, score]
    full = make_bundle(outputs[0])
    other = make_bundle(outputs[1], name="other")
    ov.save_model(ov.Core().read_model(other.weights_path), full.path / "tiny-int8.xml")
    files = [full.path / name for name in ("tiny.onnx", "tiny-int8.xml", "tiny-int8.bin")]
    values = full.manifest.model_dump(mode="json")
    values |= {"int8": "tiny-int8.xml", "sha256": {file.name: file_sha256(file) for file in files}}
    return write_manifest(full.path, Manifest.model_validate(values))


def score_of(bundle: Bundle, settings: EngineSettings, jpeg: bytes) -> float:
    (result,) = Detector(bundle, settings).detect([jpeg], 0.1)
    return round(float(result.scores[0]), 2)


def test_the_processor_chooses_and_settings_overrule_it(
    both: Bundle, jpeg: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = jpeg(64, 64)
    openvino = {"engine": "openvino"}
    for flags, expected in (({"avx512_vnni"}, 0.6), ({"amx_bf16"}, 0.9)):
        found = advice(frozenset(flags))
        monkeypatch.setattr(choice, "advice", lambda found=found: found)
        assert score_of(both, EngineSettings.model_validate(openvino), picture) == expected
        for form, forced in (("int8", 0.6), ("full", 0.9)):
            settings = EngineSettings.model_validate({**openvino, "form": form})
            assert score_of(both, settings, picture) == forced


def test_an_engine_that_cannot_read_the_int8_form_takes_the_full_one(
    both: Bundle, jpeg: Callable[[int, int], bytes]
) -> None:
    assert score_of(both, EngineSettings(engine="onnxruntime"), jpeg(64, 64)) == 0.9
    with pytest.raises(ModelError, match="expected an INT8 form for onnxruntime, got none"):
        Detector(both, EngineSettings(engine="onnxruntime", form="int8"))


def test_both_forms_are_verified(both: Bundle) -> None:
    digest = both.digest
    (both.path / "tiny-int8.bin").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"tiny-int8\.bin: expected sha256"):
        load_bundle(Path(both.path))
    assert len(digest) == 64
