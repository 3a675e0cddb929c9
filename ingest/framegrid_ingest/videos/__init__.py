"""The video service: uploads analysed in the background, counted like a camera's frames.

A process of its own (`python -m framegrid_ingest.videos --config FILE`) that asks serve for boxes; serve
passes its /videos on to it. What it holds lives in one folder, emptied at every start.
"""
