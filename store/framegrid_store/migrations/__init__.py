"""Alembic migrations; run by `framegrid_store.migrate.upgrade`."""
