"""The one piece of SQL that turns rows into counts per bucket, shared by the `bi` views and by `read`.

A bucket's rows come from two places that never overlap: its roll-up, and the raw rows whose batch is still in
`rollup_pending`. Both are seen in one snapshot, so what is read is exact at any moment, whatever maintenance
does meanwhile. Everything starts from the camera: each part is an index scan of (camera_id, time), a
condition on the camera's name or on time reaches it, and the raw rows are read for pending minutes alone.

Counts and coverage are stacked, not joined: a coverage row appears once for each series (class and zone) of
its camera with no samples, a count row with no coverage, and one GROUP BY of ids adds them up; names come
after it, for half as many rows. So a bucket that was expected but not seen is there with `samples = 0` and an
unknown mean, and a bucket that was seen with nobody in it has 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from framegrid_store.rows import DROP_REASONS


@dataclass(frozen=True, slots=True)
class Scale:
    """A bucket width.

    `bucket` is the start of the bucket that holds `{time}`, `length_s` the seconds of the one at `b.time`, in
    SQL with camera `c`. `bounds` widens `%(start)s … %(end)s` to whole buckets in `%(timezone)s`.
    `rolled_up`: whether roll-ups of this name are stored.
    """

    name: str
    view: str
    bucket: str
    length_s: str
    bounds: str
    words: str
    rolled_up: bool = True

    def bucket_of(self, time: str) -> str:
        """SQL of the start of the bucket that holds `time`."""
        return self.bucket.format(time=time)


def _fixed(name: str, view: str, width: str, width_s: int, words: str, *, rolled_up: bool = True) -> Scale:
    step, epoch = f"interval '{width}'", "'epoch'::timestamptz"
    return Scale(
        name,
        view,
        bucket=f"date_bin({step}, {{time}}, {epoch})",
        length_s=f"{width_s}",
        bounds=f"date_bin({step}, %(start)s, {epoch}),"
        f" date_bin({step}, %(end)s + {step} - interval '1 us', {epoch})",
        words=words,
        rolled_up=rolled_up,
    )


FIVE_SECONDS = _fixed("5s", "counts_5s", "5 seconds", 5, "5 seconds", rolled_up=False)
MINUTE = _fixed("minute", "counts_minute", "1 minute", 60, "minute")
HOUR = _fixed("hour", "counts_hour", "1 hour", 3600, "hour (UTC)")
DAYS_TIMEZONE = "coalesce(c.days_timezone, c.timezone)"
"""The zone that stored days are cut by. After a change of `timezone` maintenance re-cuts them, then they
agree."""
DAY = Scale(
    "day",
    "counts_day",
    bucket=f"date_trunc('day', {{time}}, {DAYS_TIMEZONE})",
    # A local day has 23, 24 or 25 hours, and half an hour more or less on Lord Howe Island.
    length_s="extract(epoch FROM"
    " ((b.time AT TIME ZONE b.days_timezone + interval '1 day') AT TIME ZONE b.days_timezone) - b.time)",
    bounds="date_trunc('day', %(start)s, %(timezone)s), date_trunc('day', (%(end)s AT TIME ZONE %(timezone)s)"
    " + interval '1 day' - interval '1 us') AT TIME ZONE %(timezone)s",
    words="local day of the camera",
)
SCALES = {scale.name: scale for scale in (FIVE_SECONDS, MINUTE, HOUR, DAY)}

COUNT_SUMS = ("samples", "n_sum", "n_sumsq", "uniques", "score_milli_sum")
_DROPPED = tuple(f"dropped_{reason}" for reason in DROP_REASONS)
COVERAGE_SUMS = ("observed_ms", "expected", "processed", *_DROPPED)
_EXTREMES = ("n_min", "n_max")
DROPPED_SUM = " + ".join(_DROPPED)

LOCAL_TIME = "to_char(b.time AT TIME ZONE b.timezone, 'YYYY-MM-DD HH24:MI:SS')"
_CAMERA = f"c.key AS camera, c.site, c.timezone, {DAYS_TIMEZONE} AS days_timezone"


def counts_sql(scale: Scale, where: str = "true") -> str:
    """SELECT of counts per bucket. `where`: a condition over `time` and `camera_id` of whole buckets, or of
    raw rows at the scale that has no roll-ups."""
    counted = ["class_id", "zone_id", *COUNT_SUMS, *_EXTREMES]
    seen = ", ".join(f"v.{name}" for name in COVERAGE_SUMS)
    parts = [
        f"SELECT time, {', '.join(counted)}, {_zeros(COVERAGE_SUMS)} FROM ({part}) f"
        for part in _parts(scale, "frame_count", counted, where)
    ] + [
        f"SELECT v.time, s.class_id, s.zone_id, {_zeros(COUNT_SUMS)}, NULL, NULL, {seen}"
        f" FROM ({part}) v JOIN framegrid.series s ON s.camera_id = c.camera_id"
        for part in _parts(scale, "coverage", COVERAGE_SUMS, where)
    ]
    return f"""
SELECT b.time, {LOCAL_TIME} AS local_time, b.camera, b.site, b.class, b.zone, b.samples,
    b.n_sum::float8 / nullif(b.samples, 0) AS mean,
    b.n_min AS min, b.n_max AS max,
    {_STDDEV} AS stddev,
    b.uniques,
    b.score_milli_sum::float8 / 1000 / nullif(b.n_sum, 0) AS score_mean,
    b.n_sum, b.n_sumsq,
    {_seen(scale)}
FROM (
    SELECT {_CAMERA}, k.name AS class, z.name AS zone, r.*
    FROM framegrid.camera c
    CROSS JOIN LATERAL (
        SELECT u.time, u.class_id, u.zone_id, {_sums([*COUNT_SUMS, *COVERAGE_SUMS])},
            min(u.n_min) AS n_min, max(u.n_max) AS n_max
        FROM (
        {_UNION.join(parts)}
        ) u
        GROUP BY u.time, u.class_id, u.zone_id
    ) r
    JOIN framegrid.object_class k ON k.class_id = r.class_id
    JOIN framegrid.zone z ON z.zone_id = r.zone_id
) b
""".strip()


def coverage_sql(scale: Scale, where: str = "true") -> str:
    """SELECT of coverage per bucket and camera. `where` as in `counts_sql`."""
    return f"""
SELECT b.time, {LOCAL_TIME} AS local_time, b.camera, b.site, {_seen(scale)}
FROM (
    SELECT {_CAMERA}, r.*
    FROM framegrid.camera c
    CROSS JOIN LATERAL (
        SELECT u.time, {_sums(COVERAGE_SUMS)}
        FROM (
        {_UNION.join(_parts(scale, "coverage", COVERAGE_SUMS, where))}
        ) u
        GROUP BY u.time
    ) r
) b
""".strip()


# samples * n_sumsq - n_sum^2 is a whole number: exact as bigint, or as numeric where it might not fit, which
# takes three times as long. Never negative for real frames; a row with other numbers must not break the view.
_SMALL = "b.samples < 1000000000 AND b.n_sum < 1000000000 AND b.n_sumsq BETWEEN 0 AND 1000000000"
_STDDEV = f"""CASE WHEN b.samples > 1 THEN CASE WHEN {_SMALL}
        THEN sqrt(greatest(b.samples * b.n_sumsq - b.n_sum * b.n_sum, 0)::float8
            / (b.samples * (b.samples - 1)))
        ELSE sqrt(greatest(b.samples::numeric * b.n_sumsq - b.n_sum::numeric ^ 2, 0)
            / (b.samples::numeric * (b.samples - 1)))::float8 END END"""
_UNION = "\n        UNION ALL "


def _parts(scale: Scale, table: str, names: Sequence[str], where: str) -> list[str]:
    """SELECTs of time and values of camera `c`: together every row of the table, once."""
    listed = ", ".join(names)
    # In raw rows, n_min and n_max mean nothing where samples is 0.
    values = ", ".join(
        f"CASE WHEN samples > 0 THEN {name} END AS {name}" if name in _EXTREMES else name for name in names
    )
    raw = f"framegrid.{table} f WHERE f.camera_id = c.camera_id"
    if not scale.rolled_up:
        return [f"SELECT {scale.bucket_of('f.time')} AS time, {values} FROM {raw} AND {where}"]
    # OFFSET 0 keeps the planner from anything but one index scan for each pending minute.
    return [
        f"SELECT time, {listed} FROM framegrid.{table}_{scale.name} f"
        f" WHERE f.camera_id = c.camera_id AND {where}",
        f"SELECT time, {listed} FROM (SELECT {scale.bucket_of('d.minute')} AS time, c.camera_id, f.*"
        " FROM (SELECT DISTINCT minute FROM framegrid.rollup_pending) d CROSS JOIN LATERAL"
        f" (SELECT batch_no, {values} FROM {raw} AND f.time >= d.minute"
        " AND f.time < d.minute + interval '1 minute' OFFSET 0) f"
        " WHERE EXISTS (SELECT FROM framegrid.rollup_pending p"
        f" WHERE p.minute = d.minute AND p.batch_no = f.batch_no)) f WHERE {where}",
    ]


def _zeros(names: Iterable[str]) -> str:
    return ", ".join(f"0::bigint AS {name}" for name in names)


def _sums(names: Iterable[str]) -> str:
    return ", ".join(f"framegrid.total(u.{name}) AS {name}" for name in names)


def _seen(scale: Scale) -> str:
    dropped = ", ".join(f"b.{name}" for name in _DROPPED)
    return f"""b.observed_ms::float8 / 1000 AS observed_s,
    least(1, b.observed_ms::float8 / 1000 / ({scale.length_s}))::float8 AS coverage,
    b.expected, b.processed, b.expected - b.processed AS dropped, {dropped}"""
