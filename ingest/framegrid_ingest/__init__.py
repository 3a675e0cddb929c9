"""Ingest: camera streams in; tracks, counts and coverage out."""
