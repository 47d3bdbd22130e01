"""Installing: another bundle for an asset of this gateway, verified, tried, and switched to.

In: a file, an asset, the configuration. Out: the shelf with one more bundle that judges from the
next start on, or a `BundleError` and everything as it was. Never: lets judge what was not verified
and run, goes back to a lower serial unless asked to, keeps more than `shelf.KEPT`.

    read -> hash, signature, serial -> same sensor -> site's settings -> rehearsal -> shelf
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from edge_agent.assets import site_of
from edge_agent.bundles.bundle import Bundle, BundleError, bundle_bytes, read_bundle, verified
from edge_agent.bundles.manifest import Sensor
from edge_agent.bundles.rehearsal import rehearse
from edge_agent.bundles.shelf import (
    Pointer,
    before_current,
    bundle_of,
    folder_of,
    pointer_of,
    put,
    read_serials,
    readable_pointer,
    take_back,
)
from edge_agent.config import Config
from edge_agent.judging.pipeline import Pipeline

ROOT = 0
# As a board's rate may differ from its bundle's.
RATE_TOLERANCE = 0.05


class Done(NamedTuple):
    """What came of it: the bundle that judges from the next start on, and the one before."""

    bundle: Bundle
    before: Bundle | None
    pointer: Pointer
    window_ms: float | None = None


def install(file: Path, asset: str, config: Config, any_sensor: bool = False) -> Done:
    """Raises `BundleError` or another `ValueError` if the bundle is refused, `OSError` for files.
    `any_sensor` allows another sensor than that of the bundle before."""
    settings, state_dir = config.assets[asset], config.storage.state_dir
    content = bundle_bytes(file)
    bundle = verified(file.name, content, config.trusted_keys, lowest_serial(state_dir, asset))
    before = _judging(config, asset)
    if before and not any_sensor:
        _same_sensor(file.name, bundle.manifest.sensor, before.manifest.sensor)
    Pipeline(asset, bundle.manifest, lambda scaled: scaled, site_of(settings, bundle.manifest))
    state_dir.mkdir(parents=True, exist_ok=True)
    window_ms = rehearse(file.name, content, _other_owner(state_dir))
    with _alone(state_dir) as folder:
        # Somebody else may have been faster.
        verified(file.name, content, config.trusted_keys, lowest_serial(folder, asset))
        if before and readable_pointer(folder, asset) is None:
            put(folder, asset, bundle_bytes(settings.bundle), before)
        pointer = put(folder, asset, content, bundle)
    return Done(bundle, before, pointer, window_ms)


def roll_back(asset: str, config: Config) -> Done:
    """The bundle before the present one judges again. Raises `BundleError`, `OSError`."""
    state_dir = config.storage.state_dir
    if not state_dir.is_dir():
        raise BundleError(f"nothing was installed for {asset}: there is nothing to go back to")
    with _alone(state_dir) as folder:
        pointer = pointer_of(folder, asset)
        if pointer is None:
            raise BundleError(f"nothing was installed for {asset}: there is nothing to go back to")
        name = before_current(pointer)
        bundle = read_bundle(folder_of(folder, asset) / name, config.trusted_keys)
        pointer = take_back(folder, asset, pointer, name, bundle)
    return Done(bundle, None, pointer)


def lowest_serial(state_dir: Path, asset: str) -> int:
    """What a file must have at least: the highest that was run or installed."""
    pointer = readable_pointer(state_dir, asset)
    return max(read_serials(state_dir).get(asset, 1), pointer.highest_serial if pointer else 1)


def _judging(config: Config, asset: str) -> Bundle | None:
    """The bundle that is to be replaced, None if it is damaged, not trusted or not there."""
    configured, state_dir = config.assets[asset].bundle, config.storage.state_dir
    with suppress(BundleError, FileNotFoundError):
        return bundle_of(state_dir, asset, configured, config.trusted_keys)
    return None


def _same_sensor(name: str, new: Sensor, old: Sensor) -> None:
    same_rate = math.isclose(new.rate_hz, old.rate_hz, rel_tol=RATE_TOLERANCE)
    if (new.channels, new.unit) == (old.channels, old.unit) and same_rate:
        return
    raise BundleError(
        f"{name} is for {_sensor(new)}, the one before it for {_sensor(old)}: choose the bundle of "
        "this asset, or --force-sensor if the sensor was changed"
    )


def _sensor(sensor: Sensor) -> str:
    return f"{', '.join(sensor.channels)} in {sensor.unit} at {sensor.rate_hz:g} Hz"


def _other_owner(folder: Path) -> tuple[int, int] | None:
    """User and group of the service, if that is not who runs this."""
    status = folder.stat()
    return (status.st_uid, status.st_gid) if os.geteuid() == ROOT != status.st_uid else None


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder, locked, and by a path that leads there with the rights of its owner alone. Root
    has no more than these here: a link that the service's user could have laid leads nowhere that
    it could not go itself, and what is written is the service's."""
    owner = _other_owner(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    inside = f"/proc/self/fd/{descriptor}"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if owner:
            os.setegid(owner[1])
            os.seteuid(owner[0])
        yield Path(inside)
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(inside, str(folder))
        raise
    finally:
        if owner:
            os.seteuid(ROOT)
            os.setegid(ROOT)
        os.close(descriptor)
