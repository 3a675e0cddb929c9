-- Rows say which batch brought them; what is not rolled up yet is known by batch and minute.
ALTER TABLE framegrid.ingest_batch ADD COLUMN batch_no BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL;
COMMENT ON COLUMN framegrid.ingest_batch.batch_no IS 'Number used in frame_count, coverage and rollup_pending';
ALTER TABLE framegrid.frame_count ADD COLUMN batch_no BIGINT DEFAULT 0 NOT NULL;
COMMENT ON COLUMN framegrid.frame_count.batch_no IS 'framegrid.ingest_batch; 0 for rows older than the column';
ALTER TABLE framegrid.coverage ADD COLUMN batch_no BIGINT DEFAULT 0 NOT NULL;
COMMENT ON COLUMN framegrid.coverage.batch_no IS 'framegrid.ingest_batch; 0 for rows older than the column';
ALTER TABLE framegrid.camera ADD COLUMN days_timezone TEXT;
COMMENT ON COLUMN framegrid.camera.days_timezone IS 'Time zone that its stored days are cut by; NULL while none is stored';

CREATE TABLE framegrid.rollup_pending (
    minute TIMESTAMP WITH TIME ZONE NOT NULL,
    batch_no BIGINT NOT NULL
);
CREATE INDEX rollup_pending_minute ON framegrid.rollup_pending (minute);
COMMENT ON TABLE framegrid.rollup_pending IS 'Batches and minutes whose rows are not in the roll-ups yet: written with the rows, deleted when they are added';
COMMENT ON COLUMN framegrid.rollup_pending.minute IS 'Start of the minute that the rows'' time lies in';
COMMENT ON COLUMN framegrid.rollup_pending.batch_no IS 'framegrid.ingest_batch; 0 for rows older than the column';

CREATE TABLE framegrid.skewed_rows (
    noted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reason TEXT NOT NULL,
    oldest TIMESTAMP WITH TIME ZONE NOT NULL,
    newest TIMESTAMP WITH TIME ZONE NOT NULL,
    rows BIGINT NOT NULL,
    CONSTRAINT skewed_rows_reason CHECK (reason IN ('late', 'future'))
);
CREATE INDEX skewed_rows_noted_at ON framegrid.skewed_rows (noted_at);
COMMENT ON TABLE framegrid.skewed_rows IS 'Rows that came later than the late horizon, or from the future; stored and rolled up like all others';
COMMENT ON COLUMN framegrid.skewed_rows.noted_at IS 'Start of the transaction that stored them';
COMMENT ON COLUMN framegrid.skewed_rows.reason IS 'late or future';
COMMENT ON COLUMN framegrid.skewed_rows.oldest IS 'Minute of the oldest of them';
COMMENT ON COLUMN framegrid.skewed_rows.newest IS 'Minute of the newest of them';
COMMENT ON COLUMN framegrid.skewed_rows.rows IS 'How many, of every kind';

CREATE TABLE framegrid.intake_limits (
    late_after INTERVAL NOT NULL,
    future_after INTERVAL NOT NULL
);
INSERT INTO framegrid.intake_limits VALUES ('24 hours', '5 minutes');
COMMENT ON TABLE framegrid.intake_limits IS 'One row: from when on rows count as late or from the future; written from the settings';
COMMENT ON COLUMN framegrid.intake_limits.late_after IS 'Rows older than this are noted as late';
COMMENT ON COLUMN framegrid.intake_limits.future_after IS 'Rows further ahead than this are noted as from the future';

CREATE TABLE framegrid.table_state (
    table_name TEXT NOT NULL,
    keep INTERVAL,
    chunk_interval INTERVAL,
    chunk_reason TEXT DEFAULT '' NOT NULL,
    dropped_before TIMESTAMP WITH TIME ZONE,
    applied_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (table_name)
);
COMMENT ON TABLE framegrid.table_state IS 'Retention and chunks in force, as last applied from the settings';
COMMENT ON COLUMN framegrid.table_state.table_name IS 'Table of this schema';
COMMENT ON COLUMN framegrid.table_state.keep IS 'Rows older than this are dropped; NULL keeps them for ever';
COMMENT ON COLUMN framegrid.table_state.chunk_interval IS 'Time span of a new chunk or partition; NULL for a table in one piece';
COMMENT ON COLUMN framegrid.table_state.chunk_reason IS 'Why this time span';
COMMENT ON COLUMN framegrid.table_state.dropped_before IS 'Rows before this time may be gone; NULL when nothing was dropped yet';
COMMENT ON COLUMN framegrid.table_state.applied_at IS 'When this row last changed';

CREATE TABLE framegrid.maintenance_task (
    task TEXT NOT NULL,
    ran_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_at TIMESTAMP WITH TIME ZONE NOT NULL,
    took_ms INTEGER NOT NULL,
    done TEXT DEFAULT '' NOT NULL,
    error TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (task)
);
COMMENT ON TABLE framegrid.maintenance_task IS 'The last run of each task of `framegrid_store maintain`';
COMMENT ON COLUMN framegrid.maintenance_task.task IS 'rollup, chunks, retention, compression';
COMMENT ON COLUMN framegrid.maintenance_task.ran_at IS 'When it last ran';
COMMENT ON COLUMN framegrid.maintenance_task.next_at IS 'When it runs next at the earliest';
COMMENT ON COLUMN framegrid.maintenance_task.took_ms IS 'How long it took, milliseconds';
COMMENT ON COLUMN framegrid.maintenance_task.done IS 'What it did, for a person';
COMMENT ON COLUMN framegrid.maintenance_task.error IS 'Why it failed; empty when it did not';

CREATE TABLE framegrid.frame_count_minute (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    samples BIGINT NOT NULL,
    n_sum BIGINT NOT NULL,
    n_sumsq BIGINT NOT NULL,
    score_milli_sum BIGINT NOT NULL,
    uniques BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    zone_id INTEGER NOT NULL,
    n_min INTEGER,
    n_max INTEGER,
    class_id SMALLINT NOT NULL,
    PRIMARY KEY (camera_id, time, class_id, zone_id)
);
COMMENT ON TABLE framegrid.frame_count_minute IS 'frame_count added up over the minute, all models together, but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.frame_count_minute.time IS 'Start of the minute';
COMMENT ON COLUMN framegrid.frame_count_minute.samples IS 'Processed frames';
COMMENT ON COLUMN framegrid.frame_count_minute.n_sum IS 'Sum over those frames of n, the objects in the frame';
COMMENT ON COLUMN framegrid.frame_count_minute.n_sumsq IS 'Sum over those frames of n squared';
COMMENT ON COLUMN framegrid.frame_count_minute.score_milli_sum IS 'Sum of the scores of all objects, in thousandths';
COMMENT ON COLUMN framegrid.frame_count_minute.uniques IS 'Tracks confirmed: new visits';
COMMENT ON COLUMN framegrid.frame_count_minute.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.frame_count_minute.zone_id IS 'framegrid.zone; 0 is the whole picture';
COMMENT ON COLUMN framegrid.frame_count_minute.n_min IS 'Least n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_minute.n_max IS 'Greatest n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_minute.class_id IS 'framegrid.object_class';

CREATE TABLE framegrid.frame_count_hour (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    samples BIGINT NOT NULL,
    n_sum BIGINT NOT NULL,
    n_sumsq BIGINT NOT NULL,
    score_milli_sum BIGINT NOT NULL,
    uniques BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    zone_id INTEGER NOT NULL,
    n_min INTEGER,
    n_max INTEGER,
    class_id SMALLINT NOT NULL,
    PRIMARY KEY (camera_id, time, class_id, zone_id)
);
COMMENT ON TABLE framegrid.frame_count_hour IS 'frame_count added up over the hour (UTC), all models together, but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.frame_count_hour.time IS 'Start of the hour (UTC)';
COMMENT ON COLUMN framegrid.frame_count_hour.samples IS 'Processed frames';
COMMENT ON COLUMN framegrid.frame_count_hour.n_sum IS 'Sum over those frames of n, the objects in the frame';
COMMENT ON COLUMN framegrid.frame_count_hour.n_sumsq IS 'Sum over those frames of n squared';
COMMENT ON COLUMN framegrid.frame_count_hour.score_milli_sum IS 'Sum of the scores of all objects, in thousandths';
COMMENT ON COLUMN framegrid.frame_count_hour.uniques IS 'Tracks confirmed: new visits';
COMMENT ON COLUMN framegrid.frame_count_hour.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.frame_count_hour.zone_id IS 'framegrid.zone; 0 is the whole picture';
COMMENT ON COLUMN framegrid.frame_count_hour.n_min IS 'Least n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_hour.n_max IS 'Greatest n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_hour.class_id IS 'framegrid.object_class';

CREATE TABLE framegrid.frame_count_day (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    samples BIGINT NOT NULL,
    n_sum BIGINT NOT NULL,
    n_sumsq BIGINT NOT NULL,
    score_milli_sum BIGINT NOT NULL,
    uniques BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    zone_id INTEGER NOT NULL,
    n_min INTEGER,
    n_max INTEGER,
    class_id SMALLINT NOT NULL,
    PRIMARY KEY (camera_id, time, class_id, zone_id)
);
COMMENT ON TABLE framegrid.frame_count_day IS 'frame_count added up over the camera''s local day, all models together, but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.frame_count_day.time IS 'Start of the camera''s local day';
COMMENT ON COLUMN framegrid.frame_count_day.samples IS 'Processed frames';
COMMENT ON COLUMN framegrid.frame_count_day.n_sum IS 'Sum over those frames of n, the objects in the frame';
COMMENT ON COLUMN framegrid.frame_count_day.n_sumsq IS 'Sum over those frames of n squared';
COMMENT ON COLUMN framegrid.frame_count_day.score_milli_sum IS 'Sum of the scores of all objects, in thousandths';
COMMENT ON COLUMN framegrid.frame_count_day.uniques IS 'Tracks confirmed: new visits';
COMMENT ON COLUMN framegrid.frame_count_day.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.frame_count_day.zone_id IS 'framegrid.zone; 0 is the whole picture';
COMMENT ON COLUMN framegrid.frame_count_day.n_min IS 'Least n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_day.n_max IS 'Greatest n; NULL when samples is 0';
COMMENT ON COLUMN framegrid.frame_count_day.class_id IS 'framegrid.object_class';

CREATE TABLE framegrid.coverage_minute (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    observed_ms BIGINT NOT NULL,
    expected BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    dropped_no_frame BIGINT NOT NULL,
    dropped_overload BIGINT NOT NULL,
    dropped_stale BIGINT NOT NULL,
    dropped_refused BIGINT NOT NULL,
    dropped_corrupt BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    PRIMARY KEY (camera_id, time)
);
COMMENT ON TABLE framegrid.coverage_minute IS 'coverage added up over the minute, but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.coverage_minute.time IS 'Start of the minute';
COMMENT ON COLUMN framegrid.coverage_minute.observed_ms IS 'Time that processed frames stand for, milliseconds';
COMMENT ON COLUMN framegrid.coverage_minute.expected IS 'Frames that should have been taken; 0 while paused';
COMMENT ON COLUMN framegrid.coverage_minute.processed IS 'Frames that were counted';
COMMENT ON COLUMN framegrid.coverage_minute.dropped_no_frame IS 'Frames lost: the camera delivered nothing new';
COMMENT ON COLUMN framegrid.coverage_minute.dropped_overload IS 'Frames lost: replaced by a newer one before it could be sent';
COMMENT ON COLUMN framegrid.coverage_minute.dropped_stale IS 'Frames lost: too old when their turn came';
COMMENT ON COLUMN framegrid.coverage_minute.dropped_refused IS 'Frames lost: the detector answered with an error, retries included';
COMMENT ON COLUMN framegrid.coverage_minute.dropped_corrupt IS 'Frames lost: the picture could not be decoded';
COMMENT ON COLUMN framegrid.coverage_minute.camera_id IS 'framegrid.camera';
CREATE INDEX coverage_minute_seen ON framegrid.coverage_minute (camera_id, time) WHERE processed > 0;

CREATE TABLE framegrid.coverage_hour (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    observed_ms BIGINT NOT NULL,
    expected BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    dropped_no_frame BIGINT NOT NULL,
    dropped_overload BIGINT NOT NULL,
    dropped_stale BIGINT NOT NULL,
    dropped_refused BIGINT NOT NULL,
    dropped_corrupt BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    PRIMARY KEY (camera_id, time)
);
COMMENT ON TABLE framegrid.coverage_hour IS 'coverage added up over the hour (UTC), but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.coverage_hour.time IS 'Start of the hour (UTC)';
COMMENT ON COLUMN framegrid.coverage_hour.observed_ms IS 'Time that processed frames stand for, milliseconds';
COMMENT ON COLUMN framegrid.coverage_hour.expected IS 'Frames that should have been taken; 0 while paused';
COMMENT ON COLUMN framegrid.coverage_hour.processed IS 'Frames that were counted';
COMMENT ON COLUMN framegrid.coverage_hour.dropped_no_frame IS 'Frames lost: the camera delivered nothing new';
COMMENT ON COLUMN framegrid.coverage_hour.dropped_overload IS 'Frames lost: replaced by a newer one before it could be sent';
COMMENT ON COLUMN framegrid.coverage_hour.dropped_stale IS 'Frames lost: too old when their turn came';
COMMENT ON COLUMN framegrid.coverage_hour.dropped_refused IS 'Frames lost: the detector answered with an error, retries included';
COMMENT ON COLUMN framegrid.coverage_hour.dropped_corrupt IS 'Frames lost: the picture could not be decoded';
COMMENT ON COLUMN framegrid.coverage_hour.camera_id IS 'framegrid.camera';

CREATE TABLE framegrid.coverage_day (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    observed_ms BIGINT NOT NULL,
    expected BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    dropped_no_frame BIGINT NOT NULL,
    dropped_overload BIGINT NOT NULL,
    dropped_stale BIGINT NOT NULL,
    dropped_refused BIGINT NOT NULL,
    dropped_corrupt BIGINT NOT NULL,
    camera_id INTEGER NOT NULL,
    PRIMARY KEY (camera_id, time)
);
COMMENT ON TABLE framegrid.coverage_day IS 'coverage added up over the camera''s local day, but for what is in rollup_pending';
COMMENT ON COLUMN framegrid.coverage_day.time IS 'Start of the camera''s local day';
COMMENT ON COLUMN framegrid.coverage_day.observed_ms IS 'Time that processed frames stand for, milliseconds';
COMMENT ON COLUMN framegrid.coverage_day.expected IS 'Frames that should have been taken; 0 while paused';
COMMENT ON COLUMN framegrid.coverage_day.processed IS 'Frames that were counted';
COMMENT ON COLUMN framegrid.coverage_day.dropped_no_frame IS 'Frames lost: the camera delivered nothing new';
COMMENT ON COLUMN framegrid.coverage_day.dropped_overload IS 'Frames lost: replaced by a newer one before it could be sent';
COMMENT ON COLUMN framegrid.coverage_day.dropped_stale IS 'Frames lost: too old when their turn came';
COMMENT ON COLUMN framegrid.coverage_day.dropped_refused IS 'Frames lost: the detector answered with an error, retries included';
COMMENT ON COLUMN framegrid.coverage_day.dropped_corrupt IS 'Frames lost: the picture could not be decoded';
COMMENT ON COLUMN framegrid.coverage_day.camera_id IS 'framegrid.camera';

-- The ledger, what is to be rolled up, and rows with odd times, noted in one call at the start of a batch's transaction.
CREATE FUNCTION framegrid.begin_batch(
    new_batch_id UUID, new_rows INTEGER, minutes BIGINT[], minute_rows INTEGER[], rolled_up BOOLEAN[]
) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number BIGINT;
    late TIMESTAMP WITH TIME ZONE;
    early TIMESTAMP WITH TIME ZONE;
BEGIN
    INSERT INTO framegrid.ingest_batch (batch_id, rows) VALUES (new_batch_id, new_rows)
    ON CONFLICT DO NOTHING RETURNING batch_no INTO number;
    IF number IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO framegrid.rollup_pending (minute, batch_no)
    SELECT to_timestamp(m.minute * 60), number FROM unnest(minutes, rolled_up) AS m (minute, wanted) WHERE m.wanted;
    SELECT now() - late_after, now() + future_after INTO late, early FROM framegrid.intake_limits;
    INSERT INTO framegrid.skewed_rows (reason, oldest, newest, rows)
    SELECT CASE WHEN m.at < late THEN 'late' ELSE 'future' END, min(m.at), max(m.at), sum(m.rows)
    FROM (SELECT to_timestamp(minute * 60) AS at, rows FROM unnest(minutes, minute_rows) AS u (minute, rows)) m
    WHERE m.at < late OR m.at > early GROUP BY 1;
    RETURN number;
END
$$;
COMMENT ON FUNCTION framegrid.begin_batch IS 'Number of a new batch; NULL when one of this id is stored. Minutes since 1970 that its rows lie in, rows in each, and whether counts or coverage are among them';

-- Rows from before: all pending, by minute; and those that writers not yet upgraded add in the next two hours.
INSERT INTO framegrid.rollup_pending (minute, batch_no)
SELECT date_bin('1 minute', time, 'epoch'), 0 FROM framegrid.frame_count
UNION SELECT date_bin('1 minute', time, 'epoch'), 0 FROM framegrid.coverage
UNION SELECT date_bin('1 minute', now(), 'epoch') + n * interval '1 minute', 0 FROM generate_series(0, 120) AS n
WHERE EXISTS (SELECT FROM framegrid.coverage);
