"""The cameras' sender against servers that misbehave, over real sockets on this machine."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from framegrid_load.connection import Target, TargetError
from framegrid_load.sender import FleetOptions, Sender
from framegrid_load.tally import Outcome, Tally, summed
from framegrid_serve.wire import (
    DetectRequest,
    DetectResponse,
    FrameResult,
    FrameStatus,
    decode_request,
    encode_response,
)

pytestmark = pytest.mark.integration

Answer = Callable[[DetectRequest], Awaitable[bytes]]
JPEGS = [b"\xff\xd8 not looked at \xff\xd9"] * 3


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def results(request: DetectRequest, status: FrameStatus = FrameStatus.OK) -> bytes:
    one = FrameResult.without_boxes(status)
    return http(encode_response(DetectResponse("m", "1", "", (one,) * len(request.frames))))


def at_rate(
    answer: Answer,
    *,
    cameras: int = 10,
    seconds: float = 1.0,
    requests_per_connection: int = 1000,
    **options: float,
) -> tuple[Tally, Counter[str], list[DetectRequest]]:
    """Ten frames a second of each camera against a server that answers so. b"" closes the connection."""
    seen: list[DetectRequest] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                request = decode_request(await reader.readexactly(length))
                seen.append(request)
                body = await answer(request)
                if not body or answered == requests_per_connection:
                    break
                answered += 1
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> tuple[Tally, Counter[str]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = Sender(FleetOptions(f"http://127.0.0.1:{port}", **options), JPEGS)  # type: ignore[arg-type]
        sender.set_cameras(cameras)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(0.02)
            sender.sweep()
        sender.set_cameras(0)
        for _ in range(200):
            if sender.is_done:
                break
            await asyncio.sleep(0.02)
            sender.sweep()
        assert sender.is_done
        tallies, errors = sender.take()
        sender.close()
        server.close()
        return summed(tallies.values()), errors

    tally, errors = asyncio.run(main())
    return tally, errors, seen


def test_sends_each_frame_once_and_tells_the_load() -> None:
    async def answer(request: DetectRequest) -> bytes:
        return results(request)

    tally, errors, seen = at_rate(answer)
    frames = [(frame.camera, frame.seq) for request in seen for frame in request.frames]
    assert 90 <= tally.frames <= 110
    assert len(set(frames)) == len(frames) == tally.frames == tally.outcomes[Outcome.OK]
    assert sum(request.offered_frames for request in seen) == tally.frames
    assert sum(request.dropped_frames for request in seen) == 0
    assert not errors


def test_a_stall_is_paid_by_every_frame_that_was_due_meanwhile() -> None:
    """A closed loop would have sent one frame into the stall, and seen one slow answer."""
    began_s = time.monotonic()

    async def answer(request: DetectRequest) -> bytes:
        if 0.3 < time.monotonic() - began_s < 1.0:
            await asyncio.sleep(1.0 - (time.monotonic() - began_s))
        return results(request)

    tally, _, _ = at_rate(answer, seconds=1.5, connections=2, deadline_s=5.0)
    assert tally.outcomes[Outcome.OK] == tally.frames
    slow = sum(count for ms, count in tally.latency_ms.items() if ms > 200)
    assert slow >= 35  # of the 70 frames due in those 0.7 s, those of the first 0.5 s


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (FrameStatus.STALE, Outcome.STALE),
        (FrameStatus.CORRUPT, Outcome.FAILED),
        (FrameStatus.FAILED, Outcome.FAILED),
    ],
)
def test_says_what_serve_says(status: FrameStatus, outcome: Outcome) -> None:
    async def answer(request: DetectRequest) -> bytes:
        return results(request, status)

    tally, _, _ = at_rate(answer, seconds=0.5)
    assert tally.outcomes == {outcome: tally.frames}


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        (http(b"{}", "429 Too Many Requests"), Outcome.REFUSED, "HTTP 429"),
        (http(b"oh", "500 Internal Server Error"), Outcome.BROKEN, "HTTP 500"),
        (http(b"hello"), Outcome.BROKEN, "not the wire format"),
        (b"SMTP ready\r\n\r\n", Outcome.BROKEN, "not HTTP"),
    ],
)
def test_counts_what_is_no_detection(body: bytes, outcome: Outcome, error: str) -> None:
    async def answer(request: DetectRequest) -> bytes:
        return body

    tally, errors, seen = at_rate(answer, seconds=0.5)
    assert tally.outcomes == {outcome: tally.frames}
    assert all(error in told for told in errors)
    # Not acknowledged: the load is told again and again, with what was lost of it.
    assert seen[-1].offered_frames > len(seen[-1].frames)
    assert seen[-1].dropped_frames > 0


def test_a_connection_that_the_server_closes_while_it_idles_is_no_failure() -> None:
    async def answer(request: DetectRequest) -> bytes:
        return results(request)

    tally, errors, seen = at_rate(answer, cameras=2, requests_per_connection=1)
    assert tally.outcomes == {Outcome.OK: tally.frames}
    assert len(seen) > tally.frames  # some were sent again
    assert not errors


def test_answers_that_say_close_are_followed_by_another_connection() -> None:
    async def answer(request: DetectRequest) -> bytes:
        return results(request).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    tally, errors, _ = at_rate(answer, seconds=0.5)
    assert tally.outcomes == {Outcome.OK: tally.frames}
    assert not errors


def test_frames_that_no_connection_was_free_for_are_not_sent_late() -> None:
    async def answer(request: DetectRequest) -> bytes:
        await asyncio.sleep(0.4)
        return results(request)

    tally, _, seen = at_rate(answer, seconds=1.5, connections=1, frames_per_request=1, deadline_s=0.3)
    assert tally.outcomes[Outcome.UNSENT] > tally.frames / 2
    assert sum(request.dropped_frames for request in seen) > 0
    assert all(1 <= request.timeout_ms <= 300 for request in seen)


def test_silence_is_a_failure() -> None:
    async def answer(request: DetectRequest) -> bytes:
        await asyncio.sleep(30)
        return b""

    tally, errors, _ = at_rate(answer, cameras=1, seconds=0.3, deadline_s=0.2)
    assert tally.outcomes == {Outcome.BROKEN: tally.frames}
    assert set(errors) == {"no answer"}


def test_nobody_there_is_a_failure() -> None:
    async def main() -> tuple[Tally, Counter[str]]:
        sender = Sender(FleetOptions("http://127.0.0.1:9"), JPEGS)
        sender.set_cameras(3)
        await asyncio.sleep(0.3)
        sender.set_cameras(0)
        await asyncio.sleep(0.2)
        tallies, errors = sender.take()
        sender.close()
        return summed(tallies.values()), errors

    tally, errors = asyncio.run(main())
    assert tally.outcomes == {Outcome.BROKEN: tally.frames}
    assert tally.frames > 0
    assert set(errors) == {"cannot connect: ConnectionRefusedError"}


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://x", "http://u:secret@x", "http://x:99999", "http://x/?a"]
)
def test_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(TargetError) as error:
        Target.parse(url)
    assert "secret" not in str(error.value)


def test_box_numbers_are_not_needed() -> None:
    """Answers with boxes are read as well as those without."""
    box = FrameResult(
        FrameStatus.OK, np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int16)
    )

    async def answer(request: DetectRequest) -> bytes:
        return http(encode_response(DetectResponse("m", "1", "", (box,) * len(request.frames))))

    tally, _, _ = at_rate(answer, seconds=0.3)
    assert tally.outcomes == {Outcome.OK: tally.frames}
