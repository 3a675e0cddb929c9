"""One run of a shape: what happened, and whether it passes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from framegrid_load.capacity import LAG_P99_MS, ms_text
from framegrid_load.shapes import Shape
from framegrid_load.tally import P95, WRONG, Outcome, Tally, Timeline, finite


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a run has to keep. The frames of the first second count as much as those of the last."""

    p95_ms: float = 500.0  # due until answered, of all frames; while load is steady
    lost_share: float = 0.01  # of frames, while load is steady
    recovery_s: float = 20.0  # until p95 is back under p95_ms after a change of load
    broken_share: float = 0.0  # of frames and of people's requests: errors, ever
    people_p95_ms: float = 2000.0  # of people's requests, while load is steady


@dataclass(frozen=True, slots=True)
class Span:
    """When a phase was, in seconds of the run."""

    name: str
    cameras: int
    from_s: float
    to_s: float


@dataclass(slots=True)
class Run:
    """What was seen."""

    shape: Shape
    spans: list[Span]
    cameras: Timeline
    people: Timeline
    errors: Counter[str] = field(default_factory=Counter)

    def tally(self, span: Span, *, people: bool = False) -> Tally:
        """What was due within a phase, whole seconds."""
        timeline = self.people if people else self.cameras
        return timeline.total(math.ceil(span.from_s), math.ceil(span.to_s))

    def recovery_s(self, span: Span, thresholds: Thresholds) -> float | None:
        """See Timeline.recovery_s."""
        return self.cameras.recovery_s(math.ceil(span.from_s), math.ceil(span.to_s), thresholds.p95_ms)


def problems(run: Run, thresholds: Thresholds) -> list[str]:
    """One sentence for each threshold that was missed; none: passed."""
    found = [*_whole_run(run, thresholds)]
    for span in run.spans:
        if span.name in run.shape.recovers:
            found += _recovery(run, span, thresholds)
        elif not run.shape.recovers:
            found += _steady(run, span, thresholds)
    return [f"{run.shape.name}: {problem}" for problem in found]


def _whole_run(run: Run, thresholds: Thresholds) -> list[str]:
    found = []
    for what, timeline in (("frames", run.cameras), ("people's requests", run.people)):
        total = timeline.total()
        broken = sum(total.outcomes[outcome] for outcome in WRONG)
        if broken > thresholds.broken_share * total.frames:
            why = ", ".join(f"{count} x {error}" for error, count in run.errors.most_common(3))
            found.append(
                f"expected at most {thresholds.broken_share:.1%} of {what} to break, got {broken} of "
                f"{total.frames} ({why or 'serve failed on them'})"
            )
    total = run.cameras.total()
    if not total.frames:
        found.append("expected frames, got none")
    if (lag_ms := total.lag_quantile_ms(0.99)) > LAG_P99_MS:
        found.append(
            f"expected the cameras to be at most {LAG_P99_MS:.0f} ms late (p99), got {lag_ms:.0f} ms: the "
            f"load generator had no core, and the figures are not serve's; run it on another machine"
        )
    return found


def _steady(run: Run, span: Span, thresholds: Thresholds) -> list[str]:
    tally, people = run.tally(span), run.tally(span, people=True)
    found = []
    if (p95_ms := tally.quantile_ms(P95)) > thresholds.p95_ms:
        found.append(f"expected p95 of at most {thresholds.p95_ms:.0f} ms, got {ms_text(p95_ms)}")
    if tally.lost_share > thresholds.lost_share:
        found.append(f"expected at most {thresholds.lost_share:.1%} lost frames, got {tally.lost_share:.1%}")
    if (people_ms := people.quantile_ms(P95)) > thresholds.people_p95_ms:
        found.append(
            f"expected people's p95 of at most {thresholds.people_p95_ms:.0f} ms, got {ms_text(people_ms)}"
        )
    return found


def _recovery(run: Run, span: Span, thresholds: Thresholds) -> list[str]:
    recovery_s = run.recovery_s(span, thresholds)
    wanted = f"expected p95 back under {thresholds.p95_ms:.0f} ms within {thresholds.recovery_s:.0f} s of"
    if recovery_s is None:
        return [f"{wanted} {span.name!r}, it was not after {span.to_s - span.from_s:.0f} s"]
    if recovery_s > thresholds.recovery_s:
        return [f"{wanted} {span.name!r}, it took {recovery_s:.0f} s"]
    return []


def summary_of(run: Run, thresholds: Thresholds) -> dict[str, Any]:
    """Everything about a run, as JSON. `null` in place of a latency: more frames than that were lost."""
    total = run.cameras.total()
    return {
        "shape": run.shape.name,
        "problems": problems(run, thresholds),
        "cameras": figures(total),
        "people": figures(run.people.total()),
        "lag_p99_ms": total.lag_quantile_ms(0.99),
        "errors": dict(run.errors),
        "phases": [_phase(run, span, thresholds) for span in run.spans],
        "seconds": _seconds(run.cameras),
    }


def _phase(run: Run, span: Span, thresholds: Thresholds) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": span.name,
        "cameras": span.cameras,
        "from_s": round(span.from_s, 2),
        "to_s": round(span.to_s, 2),
        "frames": figures(run.tally(span)),
    }
    if span.name in run.shape.recovers:
        recovery_s = run.recovery_s(span, thresholds)
        values["recovery_s"] = recovery_s
    return values


def _seconds(timeline: Timeline) -> list[dict[str, Any]]:
    return [{"second": second, **figures(timeline.seconds[second])} for second in sorted(timeline.seconds)]


def figures(tally: Tally) -> dict[str, Any]:
    """Counts and latencies of a tally, as JSON."""
    quantiles = {"p50_ms": 0.5, "p95_ms": P95, "p99_ms": 0.99}
    return {
        "offered": tally.frames,
        **{outcome.value: tally.outcomes[outcome] for outcome in Outcome},
        "lost_share": round(tally.lost_share, 5),
        **{name: finite(tally.quantile_ms(share)) for name, share in quantiles.items()},
    }


def spans_of(marks: Sequence[tuple[str, int, float]], end_s: float) -> list[Span]:
    """From the times at which phases began."""
    ends_s = [begin_s for _, _, begin_s in marks[1:]] + [end_s]
    return [
        Span(name, cameras, begin_s, to_s)
        for (name, cameras, begin_s), to_s in zip(marks, ends_s, strict=True)
    ]
