"""The cache of rendered clips, files with truth, and the command's messages."""

import json
from pathlib import Path

import av
import pytest
import simplejpeg
from framegrid_sim import clip_cache
from framegrid_sim.cli import camera_specs, main
from framegrid_sim.clip import Clip, SceneSettings, render_clip
from framegrid_sim.clip_cache import CacheError, clip_key, default_cache_dir, load_clips
from framegrid_sim.files import write_clip
from framegrid_sim.h264 import EncodeError, encode_units

SMALL = SceneSettings(seed=5, width=160, height=90, fps=4, duration_s=5)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(cache_dir: Path) -> Clip:
    return load_clips([SMALL], cache_dir)[0]


def test_renders_the_same_settings_once(clip: Clip, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Clip:
        raise AssertionError("rendered again")

    monkeypatch.setattr(clip_cache, "render_clip", never)
    again = load_clips([SMALL, SMALL], cache_dir)
    assert [c.jpegs for c in again] == [clip.jpegs, clip.jpegs]


def test_renders_a_damaged_clip_again(clip: Clip, tmp_path: Path) -> None:
    folder = tmp_path / clip_key(SMALL, 85)
    clip.save(folder)
    (folder / "frames.bin").write_bytes(b"short")
    assert load_clips([SMALL], tmp_path)[0].jpegs == clip.jpegs


def test_other_settings_and_qualities_have_other_keys() -> None:
    keys = {clip_key(SMALL, 85), clip_key(SMALL, 84), clip_key(SceneSettings(seed=6), 85)}
    assert len(keys) == 3


def test_a_change_of_the_server_keeps_the_clips_and_a_change_of_the_drawing_does_not() -> None:
    names = {path.stem for path in clip_cache.drawing_sources()}
    assert {"clip", "scene", "truth", "settings", "people"} <= names
    assert not {"server", "wheel", "cli", "clip_cache"} & names


def test_keeps_the_most_recently_used_clips_only(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_cache, "MAX_KEPT_CLIPS", 2)
    for name in ("a", "b", "c"):
        clip.save(tmp_path / name)
    load_clips([SMALL], tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert len(kept) == 2
    assert clip_key(SMALL, 85) in kept


def test_says_which_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"expected a writable cache folder, got .*file.*--cache"):
        load_clips([SMALL], tmp_path / "file")


def test_the_default_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_dir() == Path("/somewhere/framegrid/sim")


def test_cameras_of_one_scene_are_spread_over_its_length(clip: Clip, cache_dir: Path) -> None:
    specs = camera_specs(4, [SMALL], cache_dir=cache_dir)
    assert [s.name for s in specs] == ["camera-1", "camera-2", "camera-3", "camera-4"]
    assert [s.phase_frames for s in specs] == [0, 5, 10, 15]
    assert specs[0].clip is specs[3].clip


def test_motion_jpeg_holds_the_pictures_bit_for_bit(clip: Clip, tmp_path: Path) -> None:
    avi, truth = write_clip(clip, tmp_path, ("avi",), gop=4)
    with av.open(str(avi)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    assert packets == clip.jpegs
    assert json.loads(truth.read_text())["uniques"] == clip.truth.uniques


@pytest.mark.parametrize("name", ["mp4", "mkv"])
def test_h264_has_all_frames_and_keyframes_where_asked(clip: Clip, tmp_path: Path, name: str) -> None:
    path, _ = write_clip(clip, tmp_path, (name,), gop=8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, float(stream.average_rate or 0)) == ("h264", 4.0)
        keys = [p.is_keyframe for p in container.demux(stream) if p.size]
        container.seek(0)
        frames = [f.to_ndarray(format="gray") for f in container.decode(stream)]
    assert [i for i, key in enumerate(keys) if key] == [0, 8, 16]
    original = simplejpeg.decode_jpeg(clip.jpegs[13], colorspace="GRAY")[:, :, 0]
    assert abs(frames[13].astype(int) - original).mean() < 8  # limited range, and compressed twice


def test_pictures_are_written_one_a_file(clip: Clip, tmp_path: Path) -> None:
    folder, _ = write_clip(clip, tmp_path, ("jpeg",), gop=4)
    assert [p.read_bytes() for p in sorted(folder.iterdir())] == clip.jpegs


def test_a_loop_of_access_units_begins_with_a_keyframe_and_its_parameters(clip: Clip) -> None:
    units = encode_units(clip, gop=8)
    assert [i for i, key in enumerate(units.keyframes) if key] == [0, 8, 16]
    assert all(unit.startswith(b"\x00\x00\x00\x01") for unit in units.units)
    assert b"\x00\x00\x00\x01\x67" in units.units[0]  # sequence parameter set


def test_h264_refuses_odd_sizes_and_keeps_saying_why(tmp_path: Path) -> None:
    odd = render_clip(SceneSettings(width=161, height=90, fps=1, duration_s=5))
    with pytest.raises(EncodeError, match=r"even width and height for H\.264, got 161x90"):
        write_clip(odd, tmp_path, ("mp4",), gop=4)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["serve", "--cameras", "0"], "expected 1 camera or more, got 0"),
        (["serve", "--clips", "0"], "expected 1 clip or more, got 0"),
        (["serve", "--fps", "500"], "expected fps from 0.5 to 60"),
        (["serve", "--port", "99999"], "expected a port from 0 to 65535, got 99999"),
        (["render", "--out", "/x", "--clips", "0"], "expected 1 clip or more"),
    ],
)
def test_a_wrong_option_is_one_line_on_standard_error(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
