"""Sim: a street with exact truth, served as cameras."""
