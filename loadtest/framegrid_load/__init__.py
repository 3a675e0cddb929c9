"""Load with a clock of its own: fleets of cameras and people against a running Framegrid."""
