"""Installing: another bundle for an asset of this gateway, verified, tried, and switched to.

In: a file, an asset, the configuration. Out: the shelf with one more bundle, by which the service
judges from now on (or from its next start on, if none runs), or a `BundleError` and everything as
it was. Never: lets judge what was not verified and run, goes back to a lower serial unless asked
to, keeps more than `shelf.KEPT`, leaves on the shelf what the service that runs has refused.

    read -> hash, signature, serial -> same sensor -> site's settings -> rehearsal -> shelf
    -> the service that runs
"""

from __future__ import annotations

import fcntl
import math
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
    unless_refused,
)
from edge_agent.config import Config
from edge_agent.door import NoService, ask
from edge_agent.files import as_owner, other_owner
from edge_agent.judging.pipeline import Pipeline

# As a board's rate may differ from its bundle's.
RATE_TOLERANCE = 0.05
# A large bundle on a slow card, behind others.
TAKE_UP_SECONDS = 60.0


class TakenUp(NamedTuple):
    """Whether the service judges by it already, and what came of that in words."""

    now: bool
    told: str


class Done(NamedTuple):
    """What came of it: the bundle that judges, from when on, and the one before."""

    bundle: Bundle
    before: Bundle | None
    pointer: Pointer
    taken_up: TakenUp
    window_ms: float | None = None


def install(file: Path, asset: str, config: Config, any_sensor: bool = False) -> Done:
    """Raises `BundleError` or another `ValueError` if the bundle is refused, `OSError` for files.
    `any_sensor` allows another sensor than that of the bundle before."""
    settings, state_dir = config.assets[asset], config.storage.state_dir
    content = bundle_bytes(file)
    bundle = verified(file.name, content, config.trusted_keys, lowest_serial(state_dir, asset))
    before = _judging(config, asset)
    _only_one_of_its_serial(file.name, bundle, before, config, asset)
    if before and not any_sensor:
        _same_sensor(file.name, bundle.manifest.sensor, before.manifest.sensor)
    Pipeline(asset, bundle.manifest, lambda scaled: scaled, site_of(settings, bundle.manifest))
    state_dir.mkdir(parents=True, exist_ok=True)
    window_ms = rehearse(file.name, content, other_owner(state_dir))
    with _alone(state_dir) as folder, unless_refused(folder, asset):
        # Somebody else may have been faster.
        verified(file.name, content, config.trusted_keys, lowest_serial(folder, asset))
        if before and readable_pointer(folder, asset) is None:
            put(folder, asset, bundle_bytes(settings.bundle), before)
        pointer = put(folder, asset, content, bundle)
        taken_up = _taken_up(folder, asset)
    return Done(bundle, before, pointer, taken_up, window_ms)


def roll_back(asset: str, config: Config) -> Done:
    """The bundle before the present one judges again. Raises `BundleError`, `OSError`."""
    state_dir = config.storage.state_dir
    if not state_dir.is_dir():
        raise BundleError(f"nothing was installed for {asset}: there is nothing to go back to")
    with _alone(state_dir) as folder, unless_refused(folder, asset):
        pointer = pointer_of(folder, asset)
        if pointer is None:
            raise BundleError(f"nothing was installed for {asset}: there is nothing to go back to")
        name = before_current(pointer)
        bundle = read_bundle(folder_of(folder, asset) / name, config.trusted_keys)
        pointer = take_back(folder, asset, pointer, name, bundle)
        taken_up = _taken_up(folder, asset)
    return Done(bundle, None, pointer, taken_up)


def lowest_serial(state_dir: Path, asset: str) -> int:
    """What a file must have at least: the highest that was run or installed."""
    pointer = readable_pointer(state_dir, asset)
    return max(read_serials(state_dir).get(asset, 1), pointer.highest_serial if pointer else 1)


def _taken_up(state_dir: Path, asset: str) -> TakenUp:
    """What the service says to what is chosen now. Raises `BundleError` if it refuses it."""
    request = {"do": "take_up", "asset": asset}
    try:
        answer = ask(state_dir, request, TAKE_UP_SECONDS)
    except NoService:
        return TakenUp(False, "no service runs here, or it does not answer")
    except OSError as error:
        return TakenUp(False, f"the service can't be asked: {error.strerror or error}")
    except ValueError as error:
        told = f"the service that runs refuses it and judges {asset} as before: {error}"
        raise BundleError(told) from None
    return TakenUp(bool(answer.get("taken_up")), str(answer.get("told")))


def _judging(config: Config, asset: str) -> Bundle | None:
    """The bundle that is to be replaced, None if it is damaged, not trusted or not there."""
    configured, state_dir = config.assets[asset].bundle, config.storage.state_dir
    with suppress(BundleError, FileNotFoundError):
        return bundle_of(state_dir, asset, configured, config.trusted_keys)
    return None


def _only_one_of_its_serial(
    name: str, new: Bundle, before: Bundle | None, config: Config, asset: str
) -> None:
    """Two contents of one serial could be changed for each other, and nobody would see it. The same
    content may come again, also with another signature."""
    state_dir, serial = config.storage.state_dir, new.manifest.serial
    pointer, others = readable_pointer(state_dir, asset), [before] if before else []
    for kept in pointer.kept if pointer else ():
        if kept.startswith(f"{serial}-"):
            with suppress(BundleError, OSError):
                others.append(read_bundle(folder_of(state_dir, asset) / kept, config.trusted_keys))
    manifests = [other.manifest for other in others if other.manifest.serial == serial]
    if any(manifest != new.manifest for manifest in manifests):
        raise BundleError(
            f"{name} is another bundle of serial {serial}: build with a higher serial"
        )


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


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder, locked, with the rights of its owner."""
    with as_owner(folder) as (descriptor, inside):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield inside
