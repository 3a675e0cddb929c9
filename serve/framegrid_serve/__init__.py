"""Serve: frames in, detections out. Nothing is imported here, so that `wire` never loads an engine."""
