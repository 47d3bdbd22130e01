"""Accel: what an accelerometer's readings mean, from twelve poses that it lay still in.

In: samples of a board that was laid down in any twelve attitudes, by hand, without a fixture. Out:
scale, cross axes and bias, the error to expect of them, and checks of the sensor beside it. Never:
is loaded by the service (SciPy is), asks for a pose that must be exact.

Begin at `task.py`, the method from samples to verdict. `seconds.py` finds stillness, `poses.py`
keeps attitudes, `fit.py` makes nine parameters of them, `accuracy.py`, `moved.py` and `grading.py`
are its conscience, `moves.py` says where to lay it next. `rate.py`, `axes.py`, `sides.py`,
`noise.py`, `self_test.py`, `shaker.py` and `tap.py` are the checks, `command.py` is what a
technician runs.
"""
