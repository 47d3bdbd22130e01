"""Calibrate: what a sensor's readings mean, found on site in minutes, with its own error.

In: a board that is being turned, or a recording of one. Out: a verdict with its predicted error,
and if that is good a calibration on the board's shelf, which the service takes up at once. Never:
has the service load SciPy (only `shelf.py`, `applying.py` and `disturbance.py` are its), stores
what is bad.

    live.py -> sitting.py (screen.py, keys.py) -> a Task (task.py) -> shelf.py -> applying.py

Begin at `compass.py`, the method from readings to verdict. `sphere.py`, `thinning.py`,
`ellipsoid.py`, `gravity.py`, `hard_iron.py` are its steps, `screening.py`, `accuracy.py` and
`grading.py` its conscience, `heading.py` and `turning.py` its use. `readings.py` is where files
come in. `live_compass.py` is the same method while the board is turned, with `kept.py` for what it
keeps and `guide.py` for what to do next. `command.py` and `live_command.py` are what a technician
runs; `accel/` and `baseline/` are the other two tasks.
"""
