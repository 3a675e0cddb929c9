"""Names of the schema that code without SQLAlchemy needs too."""

SCHEMA = "framegrid"

TIME_TABLES = {
    "frame_count": "time",
    "coverage": "time",
    "track": "started_at",
    "line_crossing": "time",
    "event": "time",
    "detection": "time",
}
"""Fact tables and the column that time is cut by."""
