"""Task: an accelerometer is laid down in twelve attitudes; samples in, a calibration out.

In: the board's schema, batches of its streams. Out: `Progress`, a `Result`, in the end a `Draft` or
`Refused`. Never: knows whether the samples are live or of a recording: both take the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.calibrate.accel.axes import AxesWatch
from edge_agent.calibrate.accel.drafting import drafted
from edge_agent.calibrate.accel.grading import Result, calibrate, warm_up
from edge_agent.calibrate.accel.noise import Floor, noise_finding, noise_floor
from edge_agent.calibrate.accel.partial import read_partial, write_partial
from edge_agent.calibrate.accel.poses import (
    APART_DEG,
    MOST_POSES,
    WANTED,
    Pose,
    Poses,
    degrees_between,
)
from edge_agent.calibrate.accel.rate import RateWatch
from edge_agent.calibrate.accel.seconds import LEAST_RATE_HZ, Seconds
from edge_agent.calibrate.accel.sides import sides_finding
from edge_agent.calibrate.accel.units import explained, in_g
from edge_agent.calibrate.accel.view import seen_now
from edge_agent.calibrate.shelf.stored import Draft, Kind
from edge_agent.calibrate.sitting.task import CannotCalibrate, Progress, Refused
from edge_agent.calibrate.streams import NoStream, accelerometer, axes
from edge_agent.checkup.findings import Finding
from firmware_bridge.frames import DataFlag
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

LIMIT_SECONDS = 900.0
# What a unit is, and whether anything ever lies still, is told after so many tenths of a second.
SURE_TENTHS, IMPATIENT_TENTHS = 30, 100
LEAST_SECOND_ROWS = 16


@dataclass
class Dropped:
    """A pose that was taken and then found to have moved."""

    pose: Pose
    off_mg: float

    @property
    def words(self) -> str:
        """For people."""
        pose = self.pose
        return (
            f"pose {pose.number} at {pose.second.t_s:.1f} s ({pose.words}) moved while it was "
            f"taken: it reads {self.off_mg:+.1f} mg off what the others say"
        )


class AccelTask:
    """One calibration under way; `stream` names the accelerometer if it is not clear."""

    kind: Kind = "accel"

    def __init__(
        self, gravity_g: float = 1.0, stream: str | None = None,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:  # fmt: skip
        self.limit_seconds = limit_seconds
        self.gravity_g, self._name = gravity_g, stream
        self.poses = Poses()
        self.dropped: list[Dropped] = []
        self.taken: list[Pose] = []
        self.stream: StreamSchema | None = None
        self.schema: Schema | None = None
        self._result: tuple[tuple[int, ...], str | None, Result] | None = None
        self._tenths, self._final = 0, False
        self._first_s: float | None = None
        self.self_test: Finding | None = None
        self.sides: tuple[int, ...] = ()  # what the person says was down in the first poses
        self.steady = False  # no pose is refused any more for contradicting the others

    @property
    def streams(self) -> tuple[int, ...]:
        """The accelerometer."""
        return () if self.stream is None else (self.stream.id,)

    def begin(self, schema: Schema) -> None:
        """Which stream, in which unit. Raises `CannotCalibrate`."""
        try:
            stream = accelerometer(schema, self._name)
        except NoStream as error:
            raise CannotCalibrate(str(error)) from None
        unit_g = in_g(stream.unit)
        if unit_g is None:
            raise CannotCalibrate(
                f"stream {stream.name} is in {stream.unit}; expected g, mg or m/s2: name the "
                "accelerometer with --stream, or correct the board's description"
            )
        if stream.rate_hz < LEAST_RATE_HZ:
            raise CannotCalibrate(f"stream {stream.name} has {stream.rate_hz:g} samples a second; "
                                  f"{LEAST_RATE_HZ:g} are needed")  # fmt: skip
        self.schema, self.stream, self._unit_g = schema, stream, unit_g
        self._columns = axes(stream)
        self._seconds = Seconds(stream.rate_hz)
        self.axes = AxesWatch(None if stream.range is None else stream.range * unit_g)
        self.rate = RateWatch(stream.rate_hz)
        self.poses.restart()
        warm_up()

    def take(self, samples: Samples) -> None:
        """A batch; what is not of the accelerometer is nothing."""
        if self.stream is None or samples.stream != self.stream.id:
            return
        self.rate.take(samples)
        if not samples.contiguous:
            self._seconds.restart()
            self._took(self.poses.restart())
        rows = samples.values[:, self._columns].astype(np.float64) * self._unit_g
        if samples.flags & DataFlag.SELF_TEST:
            self._seconds.restart()
            return
        self.axes.cut_batches += bool(samples.flags & DataFlag.CLIPPED)
        if not np.isfinite(rows).all() or float(np.abs(rows).max(initial=0.0)) > 1e6:
            self.axes.not_numbers += len(rows)
            self._seconds.restart()
            return
        self.axes.take(rows)
        if self._first_s is None:
            self._first_s = samples.t0
        for second in self._seconds.take(rows, samples.t0 - self._first_s):
            self._tenths += 1
            self.axes.second(second)
            self._took(self.poses.take(second))

    def ended(self) -> None:
        """No more will come: a pose that was about to be taken is."""
        self._final = True
        self._took(self.poses.restart())

    def problem(self) -> str | None:
        """What makes a calibration impossible, as far as it is sure by now."""
        if self.axes.not_numbers > self.axes.rows:
            return f"{self.axes.not_numbers} of the readings are no numbers: the sensor is not read"
        if self.self_test is not None and self.self_test.level == "wrong":
            return f"the sensor's own self test: {self.self_test.seen}"
        sides = sides_finding(self.poses.kept, self.sides)
        if sides is not None and sides.level == "wrong":
            return f"{sides.seen}; {sides.expected} was said: the axes are swapped or turned"
        final = self._final
        found = self.axes.silent(final) or self.axes.broken(self.poses.kept, final)
        if found or self.stream is None or self.axes.level_g is None:
            return found
        if self._tenths >= SURE_TENTHS:
            return explained(self.axes.level_g, self.stream.unit)
        return None

    def result(self) -> Result:
        """What the poses say now. A pose that moved is dropped and told."""
        problem = self.problem()
        now = (self.steady, *(pose.number for pose in self.poses.kept))
        if self._result is None or self._result[:2] != (now, problem):
            self._result = (
                now,
                problem,
                calibrate(self.poses.kept, problem, self.gravity_g, self.steady),
            )
        found = self._result[2]
        if found.moved is None:
            return found
        pose = self.poses.kept[found.moved.place]
        if any(degrees_between(each.pose.up, pose.up) < APART_DEG for each in self.dropped):
            # Laid there again it says the same, so it is the sensor that is not linear.
            self.steady = True
            return self.result()
        self.dropped.append(Dropped(pose, found.moved.off_mg))
        self.poses.drop(pose.number)
        return self.result()

    def verdict(self) -> Result:
        """The last word: the result with what was wrong with the poses in it."""
        found = self.result()
        if found.verdict != "fail" or len(self.poses.kept) >= WANTED or self.problem():
            return found
        if not self.poses.kept and (restless := self.axes.restless()):
            return found._replace(reason=restless, next_move="lay it on something that does not "
                                  "shake, and let go of it")  # fmt: skip
        return found._replace(reason="; ".join([found.reason, *self._why_so_few()]))

    def findings(self) -> list[Finding]:
        """The checks beside it."""
        floor, sides = self.floor(), sides_finding(self.poses.kept, self.sides)
        found = [] if self.self_test is None else [self.self_test]
        found += [self.rate.finding(), self._axes_finding()]
        found += [] if sides is None else [sides]
        if floor is not None and self.stream is not None:
            found.append(noise_finding(floor, self.stream.sensor))
        return found

    def floor(self) -> Floor | None:
        """The noise of the still seconds, if there are any."""
        assert self.stream is not None
        rows = [pose.second.rows for pose in self.poses.kept]
        rows = [each for each in rows if len(each) >= LEAST_SECOND_ROWS]
        return noise_floor(rows, self.rate.rate_hz or self.stream.rate_hz) if rows else None

    def progress(self) -> Progress:
        """For the screen."""
        return seen_now(self, self.result())

    def finish(self, board: str, temperature_c: float | None) -> Draft | Refused:
        """A draft for the shelf, or why there is none."""
        self.ended()
        found = self.verdict()
        if found.verdict == "fail" or found.fit is None:
            return Refused(found.reason, found.next_move)
        return drafted(self, found, board, temperature_c)

    def partial(self) -> bytes | None:
        """The poses so far."""
        if self.schema is None or not self.poses.kept:
            return None
        return write_partial(self.schema.uid, self.poses.kept)

    def resume(self, content: bytes) -> bool:
        """Goes on with the poses of an interrupted sitting."""
        assert self.schema is not None
        found = read_partial(content, self.schema.uid)
        self.poses.restore(found)
        return bool(found)

    @property
    def impatient(self) -> str | None:
        """Why nothing comes of it, where nothing has ever lain still."""
        return self.axes.restless() if self._tenths >= IMPATIENT_TENTHS else None

    @property
    def full(self) -> bool:
        """No more poses are taken."""
        return len(self.poses.kept) >= MOST_POSES

    def every_pose(self) -> list[Pose]:
        """Every one that was taken by now, with those that an earlier sitting took."""
        numbers = {pose.number for pose in self.taken}
        return [*(pose for pose in self.poses.kept if pose.number not in numbers), *self.taken]

    def _took(self, pose: Pose | None) -> None:
        if pose is not None:
            self.taken.append(pose)

    def _why_so_few(self) -> list[str]:
        told = [each.words for each in self.dropped]
        if self.poses.again:
            told.append(f"{self.poses.again} times it was laid down as it had lain before")
        return told

    def _axes_finding(self) -> Finding:
        wrong = self.axes.silent() or self.axes.broken(self.poses.kept)
        if wrong:
            return Finding("wrong", "axes", wrong, "three axes that move and have noise",
                           "check wiring, channel order and range")  # fmt: skip
        low, high = self.axes.low, self.axes.high
        seen = ", ".join(f"{name} {a:+.2f} to {b:+.2f} g"
                         for name, a, b in zip("xyz", low, high, strict=True))  # fmt: skip
        if self.axes.cut_batches:
            seen += f", {self.axes.cut_batches} batches at the end of the range"
            return Finding("note", "axes", seen, "none", "lay it down softly; the poses are whole")
        return Finding("well", "axes", seen, "none stuck, cut off or read twice")
