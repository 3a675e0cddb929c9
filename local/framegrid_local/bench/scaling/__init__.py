"""A simulation of cameras, ingest and replicas that runs the real autoscaling policies, in seconds."""
