"""Calibrate: what a sensor's readings mean, found on site in minutes, with its own error.

In: a board that is being turned, laid down or left to run, or a recording of one. Out: a verdict
with its predicted error, and if that is good a calibration on the board's shelf, which the service
takes up at once. Never: has the service load SciPy (only `shelf/` and `compass/disturbance.py` are
its), stores what is bad.

    sitting/ (samples, screen, keys) -> a task: compass/, accel/, baseline/ -> shelf/
    reading/ (files)                 ->

Begin at `compass/compass.py`, the method from readings to verdict. Here lie what the tasks share:
`sphere.py`, `ellipsoid.py`, `heading.py`, `streams.py`, and `svg.py` for the plots of the reports.
"""
