"""Names of the schema that code without SQLAlchemy needs too."""

SCHEMA = "framegrid"

FACT_TABLES = {
    "frame_count": "time",
    "coverage": "time",
    "track": "started_at",
    "line_crossing": "time",
    "event": "time",
    "detection": "time",
}
"""What writers fill, and the column that time is cut by."""

ROLLED_UP_TABLES = ("frame_count", "coverage")
"""Those whose rows are added to roll-ups."""

TIME_TABLES = {
    **FACT_TABLES,
    **{f"{table}_{span}": "time" for span in ("minute", "hour", "day") for table in ROLLED_UP_TABLES},
}
"""All tables that are cut into chunks or partitions."""
