"""Cameras as Kubernetes resources, shared among ingest pods without a central assigner."""
