"""Grading: poses to a calibration, its verdict and the words for it. The whole method in one file.

In: poses, what was seen of the axes, how strong gravity is. Out: a `Result`. Never: grades by the
residuals (three of them say little), by anything but the error that the covariance predicts.

what is broken -> enough poses -> fit -> the pose that moved -> predicted error -> verdict.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.accel.accuracy import (
    spread_directions,
    uncalibrated_error_mg,
    worst_error_mg,
)
from edge_agent.calibrate.accel.fit import PARAMETERS, Fit, fit_poses
from edge_agent.calibrate.accel.moved import Moved, moved
from edge_agent.calibrate.accel.moves import largest_gap_deg, move_words, next_side
from edge_agent.calibrate.accel.poses import WANTED, Pose
from edge_agent.calibrate.sitting.task import Verdict
from edge_agent.calibrate.sphere import Floats

PASS_MG, MARGINAL_MG = 1.0, 5.0
# Beyond these it is no accelerometer, or its axes are not what they are called.
STRETCH_LOW, STRETCH_HIGH, MOST_BIAS_G = 0.75, 1.33, 0.5
LEAST_STEP_G = 1e-6


class Result(NamedTuple):
    """What the poses say. `error_mg` is the predicted worst error with the calibration, `before_mg`
    without it; `fit` is None where there are too few poses. `moved` is the pose that contradicts
    the others, by its place in the list."""

    verdict: Verdict
    reason: str
    next_move: str
    gap_deg: float
    fit: Fit | None = None
    error_mg: float | None = None
    before_mg: float | None = None
    moved: Moved | None = None


def calibrate(
    poses: list[Pose], problem: str | None, gravity_g: float, steady: bool = False
) -> Result:
    """Everything that the poses say; `problem` is what is wrong already, `steady`: no pose is to
    be named as the one that moved."""
    gap, move = largest_gap_deg(poses), move_words(next_side(poses))
    fit = _fitted(poses, gravity_g)
    if problem or fit is None:
        reason = problem or f"{len(poses)} of {WANTED} poses"
        return Result("fail", reason, "put that right first" if problem else move, gap)
    found = Result("fail", "", move, gap, fit, worst_error_mg(fit, gravity_g),
                   uncalibrated_error_mg(fit, gravity_g))  # fmt: skip
    wrong = _implausible(fit)
    if wrong:
        return found._replace(reason=wrong, next_move="check its wiring and what its unit is")
    means = np.stack([pose.second.mean for pose in poses])
    found = found._replace(moved=None if steady else moved(means, fit, gravity_g))
    return _graded(found, poses)


def warm_up() -> None:
    """The first fit loads SciPy, which takes half a second: samples would pile up meanwhile."""
    fit_poses(spread_directions(WANTED), 1e-3)


def noise_of(poses: list[Pose]) -> float:
    """Standard deviation of one mean in g: how its tenths scatter, and what a converter with
    coarse steps hides where the noise does not reach across them."""
    scatter = np.mean([pose.second.noise**2 for pose in poses])
    hidden = np.mean([_hidden_g(pose.second.rows, pose.second.spread) ** 2 for pose in poses])
    return float(np.sqrt(scatter + hidden))


def _hidden_g(rows: Floats, spread: Floats) -> float:
    """Of rounding, in the mean of rows with that spread (Gaussian dither)."""
    step = step_g(rows)
    if not step:
        return 0.0
    dither = max(0.0, float(np.mean(spread**2)) - step**2 / 12.0)
    return float(step / np.sqrt(12.0) * np.exp(-2.0 * np.pi**2 * dither / step**2))


def step_g(rows: Floats) -> float:
    """The smallest step between different numbers of the axes; 0 where there is none."""
    found = [np.diff(np.unique(column)) for column in rows.T]
    steps = [float(each[each > LEAST_STEP_G].min()) for each in found
             if (each > LEAST_STEP_G).any()]  # fmt: skip
    return min(steps, default=0.0)


def _fitted(poses: list[Pose], gravity_g: float) -> Fit | None:
    if len(poses) < PARAMETERS:
        return None
    try:
        fit = fit_poses(np.stack([pose.second.mean for pose in poses]), noise_of(poses), gravity_g)
    except np.linalg.LinAlgError:
        return None
    sound = all(np.isfinite(part).all() for part in (fit.matrix, fit.bias, fit.covariance))
    return fit if sound and np.linalg.eigvalsh(fit.matrix)[0] > 0.0 else None


def _implausible(fit: Fit) -> str | None:
    stretch = np.linalg.eigvalsh(fit.matrix)
    if stretch[0] < STRETCH_LOW or stretch[-1] > STRETCH_HIGH:
        return (
            f"the poses ask for scales of {stretch[0]:.2f} to {stretch[-1]:.2f}; those of an "
            f"accelerometer are {STRETCH_LOW:g} to {STRETCH_HIGH:g}"
        )
    worst = float(np.abs(fit.bias).max())
    if worst > MOST_BIAS_G:
        return f"the poses ask for a bias of {worst:.2f} g; {MOST_BIAS_G:g} g is the most believed"
    return None


def _graded(found: Result, poses: list[Pose]) -> Result:
    assert found.fit is not None
    assert found.error_mg is not None
    if found.moved is not None:
        pose = poses[found.moved.place]
        return found._replace(
            reason=f"pose {pose.number} ({pose.words}) reads {found.moved.off_mg:+.1f} mg off what "
            "the others say: it moved while it was taken",
            next_move="lay it there once more and let go of it",
        )
    rms = 1e3 * float(np.sqrt(np.mean(found.fit.residuals**2)))
    words = (
        f"predicted worst error {found.error_mg:.2f} mg ({found.before_mg:.0f} mg before), "
        f"{len(poses)} poses that agree within {rms:.2f} mg"
    )
    if len(poses) < WANTED:
        return found._replace(reason=f"{len(poses)} of {WANTED} poses: {words}")
    if found.error_mg <= PASS_MG:
        return found._replace(verdict="pass", reason=words, next_move="")
    if found.error_mg <= MARGINAL_MG:
        return found._replace(verdict="marginal", reason=words)
    return found._replace(reason=f"{words}: more than {MARGINAL_MG:g} mg is no calibration")
