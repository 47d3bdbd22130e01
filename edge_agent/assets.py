"""Assets: bundles become pipelines, or a reason why not.

In: the configuration. Out: one `Asset` for each, ready to be fed or refused in one line.
Never: lets one asset's bad bundle stop another, accepts a bundle older than one it has run
(the highest serial of each asset is remembered in the state folder).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from edge_agent.broker.messages import BundleName
from edge_agent.broker.payloads import AssetStatus
from edge_agent.bundles.bundle import Bundle, BundleError, read_bundle
from edge_agent.bundles.interpreter import ModelError
from edge_agent.bundles.manifest import Manifest
from edge_agent.bundles.model import model_of
from edge_agent.bundles.shelf import SERIALS_NAME, bundle_of, read_serials
from edge_agent.calibrate.baseline.applying import InUse, in_use
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import ShelfError
from edge_agent.config import AssetSettings, Config
from edge_agent.files import write_atomically
from edge_agent.judging.pipeline import Model, Pipeline, Site
from edge_agent.spans import Spans, timed
from firmware_bridge.schema import Schema


class Asset:
    """One thing that is watched. `refusal`: why its bundle can't judge; `fault`: why it broke;
    `invoke`: how long its model takes; `note`: why the baseline in use is not applied, if so."""

    def __init__(self, name: str, settings: AssetSettings) -> None:
        self.name = name
        self.settings = settings
        self.bundle: BundleName | None = None
        self.pipeline: Pipeline | None = None
        self.invoke = Spans()
        self.bundle_refusal: str | None = None
        self.stream_refusal: str | None = None
        self.fault: str | None = None
        self.streaming = False
        self.note: str | None = None
        self._uid: str | None = None
        self._shelf: Shelf | None = None
        self._bundle: Bundle | None = None

    @property
    def refusal(self) -> str | None:
        """Why the bundle can't judge this stream, if it can't."""
        return self.bundle_refusal or self.stream_refusal

    @property
    def status(self) -> AssetStatus:
        """What subscribers are told."""
        if self.refusal:
            return "refused"
        if self.fault:
            return "faulty"
        return "online" if self.streaming else "offline"

    def load(
        self, keys: tuple[str, ...], lowest_serial: int, state_dir: Path | None = None
    ) -> None:
        """Reads the bundle (one that was installed in `state_dir` comes first) and builds the
        pipeline, or sets `bundle_refusal`."""
        configured = self.settings.bundle
        try:
            if state_dir is None:
                bundle = read_bundle(configured, keys, lowest_serial)
            else:
                bundle = bundle_of(state_dir, self.name, configured, keys, lowest_serial)
            self.pipeline = build_pipeline(self.name, bundle, self.settings, self.invoke)
        except (BundleError, ModelError, ValueError) as error:
            self.bundle_refusal = str(error)
        except OSError as error:
            self.bundle_refusal = f"{error.filename or configured}: {error.strerror or error}"
        else:
            manifest = bundle.manifest
            self.bundle = BundleName(manifest.name, manifest.serial, bundle.sha256)
            # Only a memory's members are needed again: its slots may be others.
            self._bundle = bundle if manifest.model.memory else bundle._replace(files={})
            self._shelf = Shelf(state_dir, self.settings.board) if state_dir else None
            self.take_up()

    def take_up(self) -> str | None:
        """Judges by the baseline that is in use on its board's shelf from the next window on, or
        by the bundle alone; what came of it in one line, None if that is as before. Counters and
        an episode go on, what the threshold had learned does not."""
        pipeline, bundle = self.pipeline, self._bundle
        if pipeline is None or bundle is None or self._shelf is None or self.bundle is None:
            return None
        self.note, found, model = None, None, None
        try:
            found = in_use(self._shelf, self.name, bundle.manifest, self.bundle.sha256, self._uid)
            if (found.name if found else None) == pipeline.baseline:
                return None
            model = self._other_model(bundle, found)
        except (ShelfError, ModelError) as error:
            self.note = str(error)
            if pipeline.baseline is None:
                return self.note
            found, model = None, self._other_model(bundle, None)
        name = found.name if found else None
        pipeline.commission(name, found.manifest if found else bundle.manifest, model)
        return self.note or f"{self.name}: judged by {name or 'its bundle alone'} from now on"

    def adopt(self, found: Asset) -> None:
        """Judges by what `found` has loaded, from the next sample on: counters and an episode go
        on. Raises `ValueError` for settings that can't be kept with it: then nothing changes."""
        pipeline = found.pipeline
        if pipeline is None:
            raise ValueError(found.refusal)
        pipeline.adopt(pipeline.rules(site_of(self.settings, pipeline.manifest)))
        if self.pipeline:
            pipeline.follow(self.pipeline)
        self.pipeline, self.invoke, self.note = pipeline, found.invoke, found.note
        self.bundle, self._bundle, self._shelf = found.bundle, found._bundle, found._shelf
        self.bundle_refusal = self.stream_refusal = self.fault = None

    def _other_model(self, bundle: Bundle, found: InUse | None) -> Model | None:
        """The model with the slots of the baseline; None where there are no slots."""
        if bundle.manifest.model.memory is None:
            return None
        members = bundle.files | dict(found.members if found else {})
        return timed(model_of(bundle.manifest.model, members), self.invoke)

    def fit(self, schema: Schema) -> int | None:
        """The id of the stream to be fed from, or None and `stream_refusal` says why."""
        self.stream_refusal = self.fault = None
        self._uid = schema.uid
        self.take_up()
        if self.pipeline is None:
            return None
        try:
            stream = schema.stream(self.settings.stream)
        except KeyError as error:
            self.stream_refusal = f"{error.args[0]}: correct `stream` of asset {self.name}"
            return None
        self.stream_refusal = self.pipeline.manifest.refusal(
            stream.channels, stream.unit, stream.rate_hz
        )
        return None if self.stream_refusal else stream.id


def build_pipeline(
    asset: str, bundle: Bundle, settings: AssetSettings | None = None, invoke: Spans | None = None
) -> Pipeline:
    """The pipeline of a verified bundle; `invoke` is told how long each call of the model takes.

    Raises `ModelError` if the model isn't what it says, `ValueError` for settings that its stream
    can't be held to.
    """
    manifest = bundle.manifest
    try:
        model = model_of(manifest.model, bundle.files)
    except ModelError as error:
        raise ModelError(f"bundle {manifest.name}: {error}") from None
    if invoke is not None:
        model = timed(model, invoke)
    if settings is None:
        return Pipeline(asset, manifest, model)
    return Pipeline(asset, manifest, model, site_of(settings, manifest))


def site_of(settings: AssetSettings, manifest: Manifest) -> Site:
    """What the configuration says about the alarms of an asset."""
    limits = tuple(limit.spec for limit in settings.limits)
    return Site(settings.alarm.apply(manifest.alarm), settings.alarm.quiet, limits)


def load_assets(config: Config) -> dict[str, Asset]:
    """All assets, each loaded or refused, and the serials of the loaded ones remembered.

    Raises `OSError` if the state folder can't be written.
    """
    config.storage.state_dir.mkdir(parents=True, exist_ok=True)
    assets = {name: load_asset(config, name) for name in config.assets}
    remember_serials(config.storage.state_dir, assets.values())
    return assets


def load_asset(config: Config, name: str) -> Asset:
    """One asset, loaded or refused: at the start, and when another bundle was installed."""
    asset, state_dir = Asset(name, config.assets[name]), config.storage.state_dir
    asset.load(config.trusted_keys, read_serials(state_dir).get(name, 1), state_dir)
    return asset


def remember_serials(state_dir: Path, assets: Iterable[Asset]) -> None:
    """None of them may judge by an older bundle from now on. Raises `OSError`."""
    seen = read_serials(state_dir)
    serials = dict(seen)
    for asset in assets:
        if asset.bundle:  # one that was rolled back to is lower, and opens the door to no other
            serials[asset.name] = max(seen.get(asset.name, 1), asset.bundle.serial)
    if serials != seen:
        file = state_dir / SERIALS_NAME
        write_atomically(file, json.dumps(serials, indent=1, sort_keys=True).encode())
