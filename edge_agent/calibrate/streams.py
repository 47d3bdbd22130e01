"""Streams: which of a board's streams is the magnetometer, which feels gravity, which way is x.

In: a board's schema. Out: streams, and columns of x, y and z. Never: guesses between two that fit
equally well: the person is asked to name one.
"""

from __future__ import annotations

from edge_agent.calibrate.compass.earth_field import in_microtesla
from firmware_bridge.schema import Schema, StreamSchema

GRAVITY_UNITS = ("g", "mg", "m/s2", "m/s^2", "m/s²")
CELSIUS_UNITS = ("c", "°c", "degc", "celsius")
# `mg` is a milli-g or a milligauss: the sensor's name must tell.
MAGNETIC_WORDS = ("mag", "compass", "hmc", "qmc", "lis3mdl", "ak8963", "mmc")


class NoStream(ValueError):
    """The board has no such stream; the text names what it has."""


def axes(stream: StreamSchema) -> list[int]:
    """Columns of x, y and z by the last letter of their names, else the first three."""
    ends = [channel.lower()[-1:] for channel in stream.channels]
    return [ends.index(axis) for axis in "xyz"] if set("xyz") <= set(ends) else [0, 1, 2]


def magnetometer(schema: Schema, name: str | None = None) -> StreamSchema:
    """The magnetometer's stream, or the one of that name. Raises `NoStream`."""
    return _one(schema, name, [s for s in schema.streams if is_magnetic(s)], "uT")


def accelerometer(schema: Schema, name: str | None = None) -> StreamSchema:
    """The accelerometer's stream, or the one of that name. Raises `NoStream`."""
    return _one(schema, name, [s for s in schema.streams if feels_gravity(s)], "g")


def gravity_beside(schema: Schema, stream: StreamSchema) -> StreamSchema | None:
    """The first other stream that tells which way is down."""
    others = (s for s in schema.streams if s.id != stream.id and feels_gravity(s))
    return next(others, None)


def is_magnetic(stream: StreamSchema) -> bool:
    """Three channels of a magnetic field."""
    named = any(word in f"{stream.name} {stream.sensor}".lower() for word in MAGNETIC_WORDS)
    clear = stream.unit.lower() not in GRAVITY_UNITS and in_microtesla(stream.unit) is not None
    return len(stream.channels) >= 3 and (named or clear)


def feels_gravity(stream: StreamSchema) -> bool:
    """Three channels of an acceleration."""
    says = stream.unit.lower() in GRAVITY_UNITS and len(stream.channels) >= 3
    return says and not is_magnetic(stream)


def thermometer(schema: Schema) -> StreamSchema | None:
    """The stream that tells the board's temperature in degrees Celsius."""
    return next((s for s in schema.streams if s.unit.lower() in CELSIUS_UNITS), None)


def _one(schema: Schema, name: str | None, fitting: list[StreamSchema], unit: str) -> StreamSchema:
    if name is not None:
        try:
            fitting = [schema.stream(name)]
        except KeyError as error:
            raise NoStream(str(error.args[0])) from None
    if len(fitting) != 1 or len(fitting[0].channels) < 3:
        seen = ", ".join(
            f"{s.name} ({len(s.channels)} channels in {s.unit})" for s in schema.streams
        )
        raise NoStream(
            f"streams {seen}; expected one of three channels in {unit}: name it with --stream"
        )
    return fitting[0]
