"""Messages: facts to what subscribers read.

In: facts of the pipeline and states of the gateway. Out: `Message` values, flat JSON.
Never: sends anything, decides what is told. Topics, with <b> the base:

    <b>/status            online | stopped | offline, plain text, retained, last will
    <b>/info              retained: versions, boot, assets       <b>/health  numbers, not retained
    <b>/board/<board>     numbers, not retained: losses by kind, clock, the board's own counters
    <b>/board/<board>/compass   retained: ok | disturbed | uncalibrated, if it has a magnetometer
    <b>/<asset>/status    retained: online | offline | refused | faulty
    <b>/<asset>/state     retained: ok | alarm | acked | snoozed <b>/<asset>/score   QoS 0
    <b>/<asset>/event     not retained, through the outbox: begin | update | end | gap | drift
    <b>/<asset>/explain   not retained, through the outbox: channels by time or band, and a picture
    <b>/<asset>/picture   retained: that picture alone, a PNG
    <b>/cmd/<name> is listened to, <b>/cmd_result/<name> answers (remote.py)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel

from edge_agent.alarms.annunciator import Told
from edge_agent.broker.payloads import (
    AssetStatus,
    Compass,
    DriftEvent,
    Event,
    GapEvent,
    GatewayStatus,
    ScorePoint,
    State,
    known,
    short,
)
from edge_agent.calibrate.compass.disturbance import CompassHealth
from edge_agent.judging.drift import Drift
from edge_agent.judging.explain import TOP_CHANNELS
from edge_agent.judging.pipeline import Gap, Judgement

NOT_REPLAYED, REPLAYED = b'"replayed":false', b'"replayed":true'
SCORE_EXPIRY_SECONDS = 60
PLAIN, PNG = "text/plain", "image/png"


class Message(NamedTuple):
    """Something to publish. `alert` messages are the last that a full outbox gives up; `key` is
    the same for the same fact, however often it is sent. A broker of MQTT 5 is told the content
    type, and throws away after `expiry_seconds` what nobody has fetched (0: never)."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    key: str = ""
    alert: bool = False
    content_type: str = "application/json"
    expiry_seconds: int = 0

    def as_replayed(self) -> Message:
        """The same, saying that it comes late or again."""
        return self._replace(payload=self.payload.replace(NOT_REPLAYED, REPLAYED))

    @property
    def lane(self) -> str:
        """Whose message it is: messages of one lane arrive in the order in which they were made."""
        return lane_of(self.topic)


def lane_of(topic: str) -> str:
    """The asset's part of a topic: `<b>/pump` of `<b>/pump/event`."""
    return topic.rpartition("/")[0]


class Moment(NamedTuple):
    """When: wall clock, and the monotonic clock of this boot for when the wall clock was wrong."""

    ts: str
    mono_ms: int


class BundleName(NamedTuple):
    """Which bundle judged."""

    name: str
    serial: int
    sha256: str


class Run(NamedTuple):
    """Which run of the agent speaks. Episodes are counted on by every run that has the same store,
    so a fault that is found again after a crash has the name that it had before."""

    gateway: str
    run_id: str
    boot_id: str
    store_id: str


class Messages:
    """Builds every message of one run of the agent. `wall` is Unix time, `monotonic` the clock
    of the facts."""

    def __init__(
        self,
        base_topic: str,
        run: Run,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_topic = base_topic
        self.run = run
        self._wall, self._monotonic = wall, monotonic
        self._numbers: dict[str, int] = {}

    def event(self, told: Told, bundle: BundleName) -> Message:
        """Begin, update or end of an episode."""
        fact, change = told.fact, told.fact.change
        tops: dict[str, Any] = {}
        for place, channel in enumerate(fact.why.channels[:TOP_CHANNELS], 1):
            tops |= {f"top{place}_ch": channel.name, f"top{place}_share": channel.share}
        ts, mono_ms = self._moment(change.t)
        event = Event(
            event_id=self.event_id(fact.asset, change.number), seq=told.seq,
            gateway=self.run.gateway, asset=fact.asset,
            kind=change.kind, reason=told.reason,
            ts=ts, mono_ms=mono_ms, boot_id=self.run.boot_id,
            first_over=self.time(change.first_over_t),
            score=short(fact.score), threshold=short(fact.threshold),
            ratio=short(change.ratio), peak_ratio=short(change.peak_ratio),
            severity=change.severity, suppressed=told.suppressed,
            feature=fact.why.feature, direction=fact.why.direction,
            observed=known(fact.why.observed), expected=known(fact.why.expected),
            shape=fact.why.shape, why=fact.why.sentence,
            bundle=bundle.name, bundle_serial=bundle.serial, bundle_sha256=bundle.sha256,
            calibration=fact.calibration, **tops,
        )  # fmt: skip
        key = f"{event.event_id}/{event.seq}"
        return Message(self._topic(fact.asset, "event"), as_json(event), key=key, alert=True)

    def gap(self, fact: Gap, gaps: int, samples_lost: int) -> Message:
        """One gap, or several of one asset put together; `fact` is the last of them."""
        ts, mono_ms = self._moment(fact.t)
        event = GapEvent(
            event_id=self._numbered(fact.asset, "gap"), seq=1, gateway=self.run.gateway,
            asset=fact.asset, ts=ts,
            mono_ms=mono_ms, boot_id=self.run.boot_id, gaps=gaps, samples_lost=samples_lost,
            why=fact.reason,
        )  # fmt: skip
        return Message(self._topic(fact.asset, "event"), as_json(event), key=f"{event.event_id}/1")

    def drift(self, fact: Drift, bundle: BundleName) -> Message:
        """What is normal has moved, or is back."""
        ts, mono_ms = self._moment(fact.t)
        event = DriftEvent(
            event_id=self._numbered(fact.asset, "drift"), seq=1, gateway=self.run.gateway,
            asset=fact.asset, ts=ts,
            mono_ms=mono_ms, boot_id=self.run.boot_id, moved=fact.moved, psi=fact.psi,
            over_median=fact.over_median, why=fact.sentence,
            bundle=bundle.name, bundle_serial=bundle.serial,
        )  # fmt: skip
        return Message(self._topic(fact.asset, "event"), as_json(event), key=f"{event.event_id}/1")

    def state(self, asset: str, state: State) -> Message:
        """How the asset is."""
        return Message(self._topic(asset, "state"), as_json(state), retain=True)

    def score(self, fact: Judgement, peak_ratio: float, windows: int) -> Message:
        """A point of the trend."""
        point = ScorePoint(
            asset=fact.asset, ts=self.time(fact.score.t), score=short(fact.score.value),
            threshold=short(fact.threshold), ratio=short(fact.ratio),
            peak_ratio=short(peak_ratio), windows=windows, calibration=fact.calibration,
        )  # fmt: skip
        return Message(
            self._topic(fact.asset, "score"), as_json(point), qos=0,
            expiry_seconds=SCORE_EXPIRY_SECONDS,
        )  # fmt: skip

    def explanation(self, asset: str, explanation: BaseModel, key: str) -> Message:
        """Channels by time or band, of the worst window so far."""
        return Message(self._topic(asset, "explain"), as_json(explanation), key=key)

    def picture(self, asset: str, png: bytes) -> Message:
        """The same to look at."""
        return Message(self._topic(asset, "picture"), png, retain=True, content_type=PNG)

    def asset_status(self, asset: str, status: AssetStatus) -> Message:
        """Whether the asset is being judged."""
        topic = self._topic(asset, "status")
        return Message(topic, status.encode(), retain=True, content_type=PLAIN)

    def gateway_status(self, status: GatewayStatus) -> Message:
        """Whether the gateway is there; also its last will."""
        topic = f"{self.base_topic}/status"
        return Message(topic, status.encode(), retain=True, content_type=PLAIN)

    def info(self, info: BaseModel) -> Message:
        """What runs here."""
        return Message(f"{self.base_topic}/info", as_json(info), retain=True)

    def health(self, health: BaseModel) -> Message:
        """How the gateway is, as numbers."""
        return Message(f"{self.base_topic}/health", as_json(health), qos=0)

    def board(self, name: str, health: BaseModel) -> Message:
        """How a board is, as numbers."""
        return Message(f"{self.base_topic}/board/{name}", as_json(health), qos=0)

    def compass(self, name: str, health: CompassHealth) -> Message:
        """Whether a board's compass can be believed."""
        told = Compass(
            board=name, state=health.state, since=self.time(health.since_s),
            ts=self.time(self._monotonic()), norm_ratio=health.norm_ratio,
            dip_deg=health.dip_deg, calibration=health.calibration,
        )  # fmt: skip
        return Message(self.compass_topic(name), as_json(told), retain=True)

    def compass_topic(self, name: str) -> str:
        """Where a board's compass is spoken of."""
        return f"{self.base_topic}/board/{name}/compass"

    def forgotten(self, asset: str) -> list[Message]:
        """Takes back all that is retained about an asset that is no more."""
        leaves = ("status", "state", "picture")
        return [Message(self._topic(asset, leaf), b"", retain=True) for leaf in leaves]

    def event_id(self, asset: str, number: int) -> str:
        """The name of an episode, the same in each of its messages."""
        return f"{self.run.store_id}-{asset}-{number}"

    def time(self, t: float) -> str:
        """Host seconds as RFC 3339."""
        return self._moment(t).ts

    def _numbered(self, asset: str, kind: str) -> str:
        name = f"{self.run.run_id}-{asset}-{kind}"
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return f"{name}{number}"

    def _topic(self, asset: str, leaf: str) -> str:
        return f"{self.base_topic}/{asset}/{leaf}"

    def _moment(self, t: float) -> Moment:
        wall = self._wall() - self._monotonic() + t
        text = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
        return Moment(text.replace("+00:00", "Z"), round(t * 1e3))


def as_json(model: BaseModel) -> bytes:
    """Flat, without what isn't there."""
    return model.model_dump_json(exclude_none=True).encode()
