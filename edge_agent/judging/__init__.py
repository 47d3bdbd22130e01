"""Judging: samples of one asset to facts about its health. Begin at `pipeline.py`.

Pure: no clock, no socket, no thread, no file; training, benchmark, replay and service run it alike.
"""
