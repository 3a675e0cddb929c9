"""The one piece of SQL that turns rows into counts per bucket, shared by the `bi` views and by `read`.

Counts and coverage are stacked, not joined: a coverage row appears once for each series (class and zone) of
its camera with no samples, a count row with no coverage, and one GROUP BY adds them up. So a bucket that
was expected but not seen is there with `samples = 0` and an unknown mean, and a bucket that was seen with
nobody in it has 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from framegrid_store.rows import DROP_REASONS


@dataclass(frozen=True, slots=True)
class Scale:
    """A bucket width.

    `bucket` is the start of the bucket that holds `r.time`, `length_s` the seconds of the one at `b.time`, in
    SQL with camera `c`. `bounds` widens `%(start)s … %(end)s` to whole buckets in `%(timezone)s`.
    """

    name: str
    view: str
    bucket: str
    length_s: str
    bounds: str
    words: str


def _fixed(name: str, view: str, width: str, width_s: int, words: str) -> Scale:
    step, epoch = f"interval '{width}'", "'epoch'::timestamptz"
    return Scale(
        name,
        view,
        bucket=f"date_bin({step}, r.time, {epoch})",
        length_s=f"{width_s}",
        bounds=f"date_bin({step}, %(start)s, {epoch}),"
        f" date_bin({step}, %(end)s + {step} - interval '1 us', {epoch})",
        words=words,
    )


FIVE_SECONDS = _fixed("5s", "counts_5s", "5 seconds", 5, "5 seconds")
MINUTE = _fixed("minute", "counts_minute", "1 minute", 60, "minute")
HOUR = _fixed("hour", "counts_hour", "1 hour", 3600, "hour (UTC)")
DAY = Scale(
    "day",
    "counts_day",
    bucket="date_trunc('day', r.time, c.timezone)",
    # A local day has 23, 24 or 25 hours, and half an hour more or less on Lord Howe Island.
    length_s="extract(epoch FROM"
    " ((b.time AT TIME ZONE c.timezone + interval '1 day') AT TIME ZONE c.timezone) - b.time)",
    bounds="date_trunc('day', %(start)s, %(timezone)s), date_trunc('day', (%(end)s AT TIME ZONE %(timezone)s)"
    " + interval '1 day' - interval '1 us') AT TIME ZONE %(timezone)s",
    words="local day of the camera",
)
SCALES = {scale.name: scale for scale in (FIVE_SECONDS, MINUTE, HOUR, DAY)}

_DROPPED_COLUMNS = [f"dropped_{reason}" for reason in DROP_REASONS]
_COVERAGE_COLUMNS = ["expected", "processed", *_DROPPED_COLUMNS]
DROPPED_SUM = " + ".join(_DROPPED_COLUMNS)

LOCAL_TIME = "to_char(b.time AT TIME ZONE c.timezone, 'YYYY-MM-DD HH24:MI:SS')"


def counts_sql(scale: Scale, where: str = "true") -> str:
    """SELECT of counts per bucket. `where` is a condition over `time` and `camera_id`, applied to the raw
    rows."""
    zeros = ", ".join(f"0 AS {name}" for name in _COVERAGE_COLUMNS)
    sums = ",\n        ".join(f"sum({name})::bigint AS {name}" for name in _COVERAGE_COLUMNS)
    dropped = ", ".join(f"b.{name}" for name in _DROPPED_COLUMNS)
    return f"""
SELECT b.time, {LOCAL_TIME} AS local_time,
    c.key AS camera, c.site, k.name AS class, z.name AS zone,
    b.samples,
    b.n_sum::float8 / nullif(b.samples, 0) AS mean,
    b.n_min AS min, b.n_max AS max,
    CASE WHEN b.samples > 1 THEN
        sqrt(greatest((b.n_sumsq - b.n_sum::numeric ^ 2 / b.samples) / (b.samples - 1), 0))::float8
    END AS stddev,
    b.uniques,
    b.score_milli_sum::float8 / 1000 / nullif(b.n_sum, 0) AS score_mean,
    b.n_sum, b.n_sumsq,
    b.observed_ms::float8 / 1000 AS observed_s,
    least(1, b.observed_ms::float8 / 1000 / ({scale.length_s}))::float8 AS coverage,
    b.expected, b.processed, b.expected - b.processed AS dropped, {dropped}
FROM (
    SELECT {scale.bucket} AS time, r.camera_id, r.class_id, r.zone_id,
        sum(samples)::bigint AS samples, sum(n_sum)::bigint AS n_sum, sum(n_sumsq)::bigint AS n_sumsq,
        min(n_min) FILTER (WHERE samples > 0) AS n_min, max(n_max) FILTER (WHERE samples > 0) AS n_max,
        sum(uniques)::bigint AS uniques, sum(score_milli_sum)::bigint AS score_milli_sum,
        sum(observed_ms)::bigint AS observed_ms,
        {sums}
    FROM (
        SELECT time, camera_id, class_id, zone_id, samples, n_sum, n_sumsq, n_min, n_max, uniques,
            score_milli_sum, 0 AS observed_ms, {zeros}
        FROM framegrid.frame_count WHERE {where}
        UNION ALL
        SELECT v.time, v.camera_id, s.class_id, s.zone_id, 0, 0, 0, NULL, NULL, 0,
            0, v.observed_ms, {", ".join(f"v.{name}" for name in _COVERAGE_COLUMNS)}
        FROM (SELECT * FROM framegrid.coverage WHERE {where}) v JOIN framegrid.series s USING (camera_id)
    ) r
    JOIN framegrid.camera c ON c.camera_id = r.camera_id
    GROUP BY 1, 2, 3, 4
) b
JOIN framegrid.camera c ON c.camera_id = b.camera_id
JOIN framegrid.object_class k ON k.class_id = b.class_id
JOIN framegrid.zone z ON z.zone_id = b.zone_id
""".strip()


def coverage_sql(scale: Scale, where: str = "true") -> str:
    """SELECT of coverage per bucket and camera. `where` as in `counts_sql`."""
    sums = ", ".join(f"sum({name})::bigint AS {name}" for name in _COVERAGE_COLUMNS)
    return f"""
SELECT b.time, {LOCAL_TIME} AS local_time, c.key AS camera, c.site,
    b.observed_ms::float8 / 1000 AS observed_s,
    least(1, b.observed_ms::float8 / 1000 / ({scale.length_s}))::float8 AS coverage,
    b.expected, b.processed, b.expected - b.processed AS dropped,
    {", ".join(f"b.{name}" for name in _DROPPED_COLUMNS)}
FROM (
    SELECT {scale.bucket} AS time, r.camera_id, sum(observed_ms)::bigint AS observed_ms, {sums}
    FROM (SELECT * FROM framegrid.coverage WHERE {where}) r
    JOIN framegrid.camera c ON c.camera_id = r.camera_id
    GROUP BY 1, 2
) b
JOIN framegrid.camera c ON c.camera_id = b.camera_id
""".strip()
