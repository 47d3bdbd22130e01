"""Calibrate: what a sensor's readings mean, found on site in minutes, with its own error.

In: a recording in which a board was turned. Out: hard and soft iron, the frame between
magnetometer and accelerometer, the heading error to expect, a verdict. Never: is loaded by the
service (SciPy is), stores anything.

Begin at `compass.py`, the method from readings to verdict. `sphere.py`, `thinning.py`,
`ellipsoid.py`, `gravity.py`, `hard_iron.py` are its steps, `accuracy.py` and `grading.py` its
conscience, `heading.py` and `turning.py` its use. `readings.py` is where files come in,
`command.py` what a technician runs.
"""
