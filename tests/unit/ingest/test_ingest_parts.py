"""The small parts: slot, backoff, authentication, media clocks, the keyframe decision."""

import hashlib
import itertools
import threading

import pytest
from framegrid_ingest.backoff import Backoff
from framegrid_ingest.http_auth import authorization
from framegrid_ingest.slot import Slot, SlotPolicy
from framegrid_ingest.sources.keyframes import KeyframePolicy
from framegrid_ingest.sources.media_clock import ArrivalClock, PacedClock


def test_drops_the_oldest_frame_when_the_slot_is_full() -> None:
    slot: Slot[int] = Slot()
    assert slot.put(1) is None
    assert slot.put(2) == 1
    assert slot.take() == 2
    assert slot.take() is None


def test_a_recording_waits_for_room_and_loses_nothing() -> None:
    slot: Slot[int] = Slot(SlotPolicy.WAIT, capacity=2)
    lost: list[int | None] = []
    writer = threading.Thread(target=lambda: lost.extend(slot.put(n) for n in range(50)))
    writer.start()
    taken = []
    while len(taken) < 50:
        item = slot.take()
        if item is not None:
            taken.append(item)
        assert len(slot) <= 2
    writer.join(5)
    assert taken == list(range(50))
    assert lost == [None] * 50


def test_closing_lets_a_waiting_writer_go_and_hands_back_what_waited() -> None:
    slot: Slot[int] = Slot(SlotPolicy.WAIT)
    slot.put(1)
    returned: list[int | None] = []
    writer = threading.Thread(target=lambda: returned.append(slot.put(2)))
    writer.start()
    assert slot.close() == [1]
    writer.join(5)
    assert returned == [2]


def test_backoff_doubles_to_its_cap_and_starts_over_after_a_healthy_time() -> None:
    backoff = Backoff(first_s=1.0, cap_s=10.0, reset_after_s=5.0, random_share=lambda: 1.0)
    assert [backoff.failed() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 10.0]
    backoff.healthy(4.9)
    assert backoff.failed() == 10.0
    backoff.healthy(5.0)
    assert backoff.failed() == 1.0


def test_backoff_is_jittered_by_half() -> None:
    backoff = Backoff(first_s=1.0, random_share=lambda: 0.0)
    assert backoff.failed() == 0.5
    assert backoff.failed(at_least_s=30.0) == 15.0


def test_digest_answers_the_example_of_rfc_2617() -> None:
    challenge = (
        'Basic realm="x"\nDigest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    answer = authorization(
        challenge, "GET", "/dir/index.html", user="Mufasa", password="Circle Of Life", cnonce="0a4f113b"
    )
    assert answer is not None
    assert 'response="6629fae49393a05397450978507c4ef1"' in answer
    assert 'opaque="5ccc069c403ebaf9f0171e9517f40e41"' in answer


def test_digest_without_qop_is_the_old_one() -> None:
    answer = authorization('Digest realm="r", nonce="n"', "DESCRIBE", "rtsp://h/s", user="u", password="p")

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    assert f'response="{md5(md5("u:r:p") + ":n:" + md5("DESCRIBE:rtsp://h/s"))}"' in (answer or "")


def test_sha_256_is_known_and_other_methods_are_not() -> None:
    sha = authorization(
        'Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth"', "GET", "/", user="u", password="p"
    )
    assert "algorithm=SHA-256" in (sha or "")
    assert authorization("Negotiate", "GET", "/", user="u", password="p") is None
    assert authorization('Basic realm="r"', "GET", "/", user="u", password="p") == "Basic dTpw"


def test_capture_times_follow_the_stream_and_not_the_jitter_of_its_packets() -> None:
    clock = ArrivalClock()
    delays_s = [0.05, 0.0, 0.2, 0.01, 0.3] * 20
    captured = [clock.captured_at(n / 25, 1000.0 + n / 25 + delay) for n, delay in enumerate(delays_s)]
    steps = [b - a for a, b in itertools.pairwise(captured[5:])]
    assert max(abs(step - 0.04) for step in steps) < 0.01
    assert all(
        at <= 1000.0 + n / 25 + delay + 1e-9
        for n, (at, delay) in enumerate(zip(captured, delays_s, strict=True))
    )


def test_a_jump_of_the_stream_time_starts_afresh() -> None:
    clock = ArrivalClock()
    clock.captured_at(100.0, 1000.0)
    assert clock.captured_at(5.0, 1001.0) == pytest.approx(1001.0)


def test_a_recording_is_released_at_its_own_pace_and_shifts_when_late() -> None:
    clock = PacedClock(late_s=1.0)
    assert clock.due_at(0.0, 1000.0) == 1000.0
    assert clock.due_at(0.5, 1000.1) == 1000.5
    assert clock.due_at(1.0, 1000.1) == 1001.0
    assert clock.due_at(1.5, 1009.0) == 1009.0
    assert clock.due_at(2.0, 1009.1) == 1009.5


def decoded(policy: KeyframePolicy, gap_s: float, seconds: float) -> int:
    return sum(policy.wants(n % round(gap_s * 25) == 0, n / 25) for n in range(int(seconds * 25)))


def test_keyframes_are_enough_when_they_come_as_often_as_frames_are_wanted() -> None:
    policy = KeyframePolicy("auto", sampling_s=5.0)
    assert decoded(policy, gap_s=2.0, seconds=20) == 50 + 9
    assert policy.interval_s == pytest.approx(2.0)


def test_an_index_tells_at_once_that_keyframes_are_enough() -> None:
    policy = KeyframePolicy("auto", sampling_s=5.0)
    policy.known(2.0)
    assert decoded(policy, gap_s=2.0, seconds=20) == 10


def test_all_frames_are_decoded_when_keyframes_are_too_far_apart() -> None:
    policy = KeyframePolicy("auto", sampling_s=2.0)
    assert decoded(policy, gap_s=10.0, seconds=25) == 625


def test_when_keyframes_stop_coming_decoding_begins_again_at_the_next_one() -> None:
    policy = KeyframePolicy("auto", sampling_s=2.0)
    policy.known(1.0)
    assert policy.wants(True, 0.0)
    assert not any(policy.wants(False, n / 25) for n in range(1, 200))
    assert policy.wants(True, 8.0)
    assert all(policy.wants(False, 8.0 + n / 25) for n in range(1, 200))


@pytest.mark.parametrize(("decode", "expected"), [("all", False), ("keyframes", True), ("auto", False)])
def test_fast_sampling_decodes_all_unless_told_otherwise(decode: str, expected: bool) -> None:
    policy = KeyframePolicy(decode, sampling_s=0.1)
    assert (decoded(policy, gap_s=0.2, seconds=2) == 10) is expected
