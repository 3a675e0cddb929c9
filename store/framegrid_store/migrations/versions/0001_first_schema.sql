-- The first schema: dimensions, facts, ledger. Frozen: later changes are later migrations.
-- Roll-ups, hypertables, views and roles are not here: `reconcile.py` and `bi.py` make them after every upgrade.

CREATE TABLE framegrid.camera (
    camera_id INTEGER GENERATED ALWAYS AS IDENTITY,
    key TEXT NOT NULL,
    site TEXT DEFAULT '' NOT NULL,
    timezone TEXT DEFAULT 'UTC' NOT NULL,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    paused BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (camera_id),
    CONSTRAINT camera_key_key UNIQUE (key)
);
COMMENT ON TABLE framegrid.camera IS 'Cameras, one row each';
COMMENT ON COLUMN framegrid.camera.camera_id IS 'Number used in the fact tables';
COMMENT ON COLUMN framegrid.camera.key IS 'Name in cameras.yaml; unique, never reused for another camera';
COMMENT ON COLUMN framegrid.camera.site IS 'Place the camera belongs to; empty when not given';
COMMENT ON COLUMN framegrid.camera.timezone IS 'IANA time zone; decides what a local day is';
COMMENT ON COLUMN framegrid.camera.labels IS 'Free facts, text to text';
COMMENT ON COLUMN framegrid.camera.paused IS 'Told to stand still: expects no frames';
COMMENT ON COLUMN framegrid.camera.created_at IS 'When the store first heard of it';
COMMENT ON COLUMN framegrid.camera.updated_at IS 'When its facts last changed';

CREATE TABLE framegrid.coverage (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    camera_id INTEGER NOT NULL,
    interval_ms INTEGER NOT NULL,
    observed_ms INTEGER NOT NULL,
    expected INTEGER NOT NULL,
    processed INTEGER NOT NULL,
    dropped_no_frame INTEGER NOT NULL,
    dropped_overload INTEGER NOT NULL,
    dropped_stale INTEGER NOT NULL,
    dropped_refused INTEGER NOT NULL,
    dropped_corrupt INTEGER NOT NULL,
    CONSTRAINT coverage_every_frame_accounted_for CHECK (
        expected = processed + dropped_no_frame + dropped_overload +
        dropped_stale + dropped_refused + dropped_corrupt
    )
);
CREATE INDEX coverage_camera_time ON framegrid.coverage (camera_id, time);
COMMENT ON TABLE framegrid.coverage IS 'How well each camera was seen, per interval; additive';
COMMENT ON COLUMN framegrid.coverage.time IS 'Start of the interval, capture time';
COMMENT ON COLUMN framegrid.coverage.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.coverage.interval_ms IS 'Length of the interval, milliseconds';
COMMENT ON COLUMN framegrid.coverage.observed_ms IS 'Part of the interval that processed frames stand for, milliseconds';
COMMENT ON COLUMN framegrid.coverage.expected IS 'Frames that should have been taken; 0 while paused';
COMMENT ON COLUMN framegrid.coverage.processed IS 'Frames that were counted';
COMMENT ON COLUMN framegrid.coverage.dropped_no_frame IS 'Frames lost: the camera delivered nothing new';
COMMENT ON COLUMN framegrid.coverage.dropped_overload IS 'Frames lost: replaced by a newer one before it could be sent';
COMMENT ON COLUMN framegrid.coverage.dropped_stale IS 'Frames lost: too old when their turn came';
COMMENT ON COLUMN framegrid.coverage.dropped_refused IS 'Frames lost: the detector answered with an error, retries included';
COMMENT ON COLUMN framegrid.coverage.dropped_corrupt IS 'Frames lost: the picture could not be decoded';

CREATE TABLE framegrid.detection (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    seq BIGINT NOT NULL,
    track_id UUID NOT NULL,
    camera_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    class_id SMALLINT NOT NULL,
    score_milli SMALLINT NOT NULL,
    x1_e4 SMALLINT NOT NULL,
    y1_e4 SMALLINT NOT NULL,
    x2_e4 SMALLINT NOT NULL,
    y2_e4 SMALLINT NOT NULL
);
CREATE INDEX detection_camera_time ON framegrid.detection (camera_id, time);
COMMENT ON TABLE framegrid.detection IS 'Single boxes; off unless a camera says store_detections';
COMMENT ON COLUMN framegrid.detection.time IS 'Capture time of the frame';
COMMENT ON COLUMN framegrid.detection.seq IS 'Number of the frame, as given by ingest';
COMMENT ON COLUMN framegrid.detection.track_id IS 'framegrid.track; all zeros when outside every track';
COMMENT ON COLUMN framegrid.detection.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.detection.model_id IS 'framegrid.model_version';
COMMENT ON COLUMN framegrid.detection.class_id IS 'framegrid.object_class';
COMMENT ON COLUMN framegrid.detection.score_milli IS 'Score in thousandths';
COMMENT ON COLUMN framegrid.detection.x1_e4 IS 'x1 of the box, ten-thousandths of the picture';
COMMENT ON COLUMN framegrid.detection.y1_e4 IS 'y1 of the box, ten-thousandths of the picture';
COMMENT ON COLUMN framegrid.detection.x2_e4 IS 'x2 of the box, ten-thousandths of the picture';
COMMENT ON COLUMN framegrid.detection.y2_e4 IS 'y2 of the box, ten-thousandths of the picture';

CREATE TABLE framegrid.event (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    event_id UUID NOT NULL,
    camera_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    payload JSONB NOT NULL,
    CONSTRAINT event_severity CHECK (severity IN ('info', 'warning', 'critical'))
);
CREATE INDEX event_camera_time ON framegrid.event (camera_id, time);
COMMENT ON TABLE framegrid.event IS 'What happened to cameras, and what rules noticed';
COMMENT ON COLUMN framegrid.event.time IS 'When it happened';
COMMENT ON COLUMN framegrid.event.event_id IS 'Made by ingest; the same for a repeated report of one event';
COMMENT ON COLUMN framegrid.event.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.event.kind IS 'Dotted words, e.g. camera.lost';
COMMENT ON COLUMN framegrid.event.severity IS 'info, warning or critical';
COMMENT ON COLUMN framegrid.event.message IS 'For a person';
COMMENT ON COLUMN framegrid.event.payload IS 'Facts';

CREATE TABLE framegrid.frame_count (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    camera_id INTEGER NOT NULL,
    zone_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    interval_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    n_sum BIGINT NOT NULL,
    n_sumsq BIGINT NOT NULL,
    score_milli_sum BIGINT NOT NULL,
    n_min INTEGER NOT NULL,
    n_max INTEGER NOT NULL,
    uniques INTEGER NOT NULL,
    class_id SMALLINT NOT NULL,
    CONSTRAINT frame_count_not_negative CHECK (samples >= 0 AND n_sum >= 0 AND uniques >= 0)
);
CREATE INDEX frame_count_camera_time ON framegrid.frame_count (camera_id, time);
COMMENT ON TABLE framegrid.frame_count IS 'Objects per camera, class, zone, model and interval; additive, several rows per key may exist';
COMMENT ON COLUMN framegrid.frame_count.time IS 'Start of the interval, capture time';
COMMENT ON COLUMN framegrid.frame_count.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.frame_count.zone_id IS 'framegrid.zone; 0 is the whole picture';
COMMENT ON COLUMN framegrid.frame_count.model_id IS 'framegrid.model_version';
COMMENT ON COLUMN framegrid.frame_count.interval_ms IS 'Length of the interval, milliseconds';
COMMENT ON COLUMN framegrid.frame_count.samples IS 'Processed frames';
COMMENT ON COLUMN framegrid.frame_count.n_sum IS 'Sum over those frames of n, the objects in the frame';
COMMENT ON COLUMN framegrid.frame_count.n_sumsq IS 'Sum over those frames of n squared';
COMMENT ON COLUMN framegrid.frame_count.score_milli_sum IS 'Sum of the scores of all objects, in thousandths';
COMMENT ON COLUMN framegrid.frame_count.n_min IS 'Least n; means nothing when samples is 0';
COMMENT ON COLUMN framegrid.frame_count.n_max IS 'Greatest n; means nothing when samples is 0';
COMMENT ON COLUMN framegrid.frame_count.uniques IS 'Tracks confirmed in the interval: new visits';
COMMENT ON COLUMN framegrid.frame_count.class_id IS 'framegrid.object_class';

CREATE TABLE framegrid.ingest_batch (
    batch_id UUID NOT NULL,
    stored_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    rows INTEGER NOT NULL,
    PRIMARY KEY (batch_id)
);
CREATE INDEX ingest_batch_stored_at ON framegrid.ingest_batch (stored_at);
COMMENT ON TABLE framegrid.ingest_batch IS 'Ledger: a batch whose id is here is stored, and is not stored again';
COMMENT ON COLUMN framegrid.ingest_batch.batch_id IS 'Made by the writer before the first attempt';
COMMENT ON COLUMN framegrid.ingest_batch.stored_at IS 'Start of the transaction that stored the batch';
COMMENT ON COLUMN framegrid.ingest_batch.rows IS 'Rows in the batch';

CREATE TABLE framegrid.line_crossing (
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    track_id UUID NOT NULL,
    camera_id INTEGER NOT NULL,
    line_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    class_id SMALLINT NOT NULL,
    direction SMALLINT NOT NULL,
    CONSTRAINT line_crossing_direction CHECK (direction IN (-1, 1))
);
CREATE INDEX line_crossing_camera_time ON framegrid.line_crossing (camera_id, time);
COMMENT ON TABLE framegrid.line_crossing IS 'One object crossed one line';
COMMENT ON COLUMN framegrid.line_crossing.time IS 'Capture time of the frame after the crossing';
COMMENT ON COLUMN framegrid.line_crossing.track_id IS 'framegrid.track';
COMMENT ON COLUMN framegrid.line_crossing.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.line_crossing.line_id IS 'framegrid.line';
COMMENT ON COLUMN framegrid.line_crossing.model_id IS 'framegrid.model_version';
COMMENT ON COLUMN framegrid.line_crossing.class_id IS 'framegrid.object_class';
COMMENT ON COLUMN framegrid.line_crossing.direction IS '1 in, -1 out';

CREATE TABLE framegrid.model_version (
    model_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    version TEXT DEFAULT '' NOT NULL,
    digest TEXT DEFAULT '' NOT NULL,
    precision TEXT DEFAULT '' NOT NULL,
    licence TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (model_id),
    CONSTRAINT model_version_name_version_key UNIQUE (name, version)
);
COMMENT ON TABLE framegrid.model_version IS 'Model versions that made the numbers';
COMMENT ON COLUMN framegrid.model_version.model_id IS 'Number used in the fact tables';
COMMENT ON COLUMN framegrid.model_version.name IS 'Name of the model';
COMMENT ON COLUMN framegrid.model_version.version IS 'Its version; empty when it has none';
COMMENT ON COLUMN framegrid.model_version.digest IS 'sha256 of the weights, hexadecimal; empty when not told';
COMMENT ON COLUMN framegrid.model_version.precision IS 'FP32, FP16, INT8; empty when not told';
COMMENT ON COLUMN framegrid.model_version.licence IS 'SPDX name of the licence of the weights; empty when not told';
COMMENT ON COLUMN framegrid.model_version.created_at IS 'When the store first heard of it';

CREATE TABLE framegrid.object_class (
    class_id SMALLINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    PRIMARY KEY (class_id),
    CONSTRAINT object_class_name_key UNIQUE (name)
);
COMMENT ON TABLE framegrid.object_class IS 'Counted classes';
COMMENT ON COLUMN framegrid.object_class.class_id IS 'Number used in the fact tables';
COMMENT ON COLUMN framegrid.object_class.name IS 'Counted class, e.g. person, vehicle';

CREATE TABLE framegrid.track (
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE NOT NULL,
    track_id UUID NOT NULL,
    camera_id INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    score_max REAL NOT NULL,
    first_x1 REAL NOT NULL,
    first_y1 REAL NOT NULL,
    first_x2 REAL NOT NULL,
    first_y2 REAL NOT NULL,
    last_x1 REAL NOT NULL,
    last_y1 REAL NOT NULL,
    last_x2 REAL NOT NULL,
    last_y2 REAL NOT NULL,
    class_id SMALLINT NOT NULL
);
CREATE INDEX track_camera_started_at ON framegrid.track (camera_id, started_at);
COMMENT ON TABLE framegrid.track IS 'Objects followed from first to last frame, written when the track closes';
COMMENT ON COLUMN framegrid.track.started_at IS 'Capture time of the first frame';
COMMENT ON COLUMN framegrid.track.ended_at IS 'Capture time of the last frame';
COMMENT ON COLUMN framegrid.track.track_id IS 'Made by ingest';
COMMENT ON COLUMN framegrid.track.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.track.model_id IS 'framegrid.model_version';
COMMENT ON COLUMN framegrid.track.frames IS 'Frames in which the object was detected';
COMMENT ON COLUMN framegrid.track.score_max IS 'Best score, 0..1';
COMMENT ON COLUMN framegrid.track.first_x1 IS 'x1 of the first box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.first_y1 IS 'y1 of the first box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.first_x2 IS 'x2 of the first box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.first_y2 IS 'y2 of the first box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.last_x1 IS 'x1 of the last box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.last_y1 IS 'y1 of the last box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.last_x2 IS 'x2 of the last box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.last_y2 IS 'y2 of the last box, relative to the picture, 0..1';
COMMENT ON COLUMN framegrid.track.class_id IS 'framegrid.object_class';

CREATE TABLE framegrid.line (
    line_id INTEGER GENERATED ALWAYS AS IDENTITY,
    camera_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    points JSONB,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (line_id),
    CONSTRAINT line_camera_id_name_key UNIQUE (camera_id, name),
    FOREIGN KEY(camera_id) REFERENCES framegrid.camera (camera_id)
);
COMMENT ON TABLE framegrid.line IS 'Directed lines of cameras; in: from the left hand to the right of who walks start to end';
COMMENT ON COLUMN framegrid.line.line_id IS 'Number used in the fact tables';
COMMENT ON COLUMN framegrid.line.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.line.name IS 'Name in cameras.yaml';
COMMENT ON COLUMN framegrid.line.points IS '[[x, y], [x, y]] start and end, relative, 0..1; NULL when not told';
COMMENT ON COLUMN framegrid.line.updated_at IS 'When its shape last changed';

CREATE TABLE framegrid.zone (
    zone_id INTEGER GENERATED BY DEFAULT AS IDENTITY,
    camera_id INTEGER,
    name TEXT NOT NULL,
    polygon JSONB,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (zone_id),
    CONSTRAINT zone_camera_id_name_key UNIQUE (camera_id, name),
    FOREIGN KEY(camera_id) REFERENCES framegrid.camera (camera_id)
);
COMMENT ON TABLE framegrid.zone IS 'Zones of cameras; zone 0 is the whole picture of any camera';
COMMENT ON COLUMN framegrid.zone.zone_id IS 'Number used in the fact tables; 0 is the whole picture';
COMMENT ON COLUMN framegrid.zone.camera_id IS 'framegrid.camera; NULL for zone 0';
COMMENT ON COLUMN framegrid.zone.name IS 'Name in cameras.yaml; empty for the whole picture';
COMMENT ON COLUMN framegrid.zone.polygon IS '[[x, y], …] relative to the picture, 0..1; NULL when not told';
COMMENT ON COLUMN framegrid.zone.updated_at IS 'When its shape last changed';

CREATE TABLE framegrid.series (
    camera_id INTEGER NOT NULL,
    class_id SMALLINT NOT NULL,
    zone_id INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (camera_id, class_id, zone_id),
    FOREIGN KEY(camera_id) REFERENCES framegrid.camera (camera_id),
    FOREIGN KEY(class_id) REFERENCES framegrid.object_class (class_id),
    FOREIGN KEY(zone_id) REFERENCES framegrid.zone (zone_id)
);
COMMENT ON TABLE framegrid.series IS 'What is counted where: lets an interval without counts appear, as unknown and not as nobody';
COMMENT ON COLUMN framegrid.series.camera_id IS 'framegrid.camera';
COMMENT ON COLUMN framegrid.series.class_id IS 'framegrid.object_class';
COMMENT ON COLUMN framegrid.series.zone_id IS 'framegrid.zone';
COMMENT ON COLUMN framegrid.series.created_at IS 'When the first count came';

-- Zone 0 is the whole picture of any camera.
INSERT INTO framegrid.zone (zone_id, camera_id, name, polygon) VALUES (0, NULL, '', NULL);
