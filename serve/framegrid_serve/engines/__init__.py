"""Engines: what runs a network. Nothing is imported here, so that choosing one loads only that one."""
