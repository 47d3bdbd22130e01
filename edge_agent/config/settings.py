"""Settings: what a configuration may say, and what it means when it doesn't.

In: values that were read. Out: frozen sections with units in their names; pydantic's errors.
Never: reads a file or the environment, accepts a key that it doesn't know.
"""

from __future__ import annotations

import ipaddress
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from edge_agent.alarms.annunciator import Policy
from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.judging.limits import LimitSpec, Machine
from edge_agent.judging.quiet import QuietSpec

SCHEMA_VERSION = 1
KEY_BYTES = 32
SLUG = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TOPIC = r"^[^+#/\x00$][^+#\x00]{0,199}$"
HOST = r"^([^\s/@:\[\]]{1,255}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?)$"
# What people are told instead of the pattern.
PATTERNS = {
    SLUG: "letters a-z, digits, - and _ only, a letter or digit first, at most 64",
    TOPIC: "a topic without + and #, not beginning with / or $, at most 200 characters",
    HOST: "a name or an address alone, as in broker.example, 10.0.0.5 or ::1 (port and username "
    "have keys of their own)",
}


def _path(value: object) -> object:
    """An empty path would be the folder of the configuration."""
    if value == "" or (isinstance(value, str) and "\0" in value):
        raise ValueError("must be the path of a file or folder")
    return value


def _public_key(value: object) -> object:
    """Here, and not when a bundle is read: it is a mistake in this file."""
    with suppress(ValueError):
        if not isinstance(value, str) or len(b64decode(value.strip(), validate=True)) == KEY_BYTES:
            return value
    raise ValueError("must be the 44 characters of a signing.pub that edge-converter keygen made")


Slug: TypeAlias = Annotated[str, Field(pattern=SLUG)]
Topic: TypeAlias = Annotated[str, Field(pattern=TOPIC)]
Host: TypeAlias = Annotated[str, Field(pattern=HOST)]
File: TypeAlias = Annotated[Path, BeforeValidator(_path)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=255)]
PublicKey: TypeAlias = Annotated[Text, BeforeValidator(_public_key)]
Port: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=65535)]
Windows: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Pause: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=604_800, allow_inf_nan=False)]
Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Days: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=36_500, allow_inf_nan=False)]

# These are topics of the gateway itself, directly under the base.
RESERVED_ASSETS = ("status", "info", "health", "board", "cmd", "cmd_result")


class Section(BaseModel):
    """Immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GatewaySettings(Section):
    """Who this gateway is; `id` is a stable slug, not the host name."""

    id: Slug


class MqttSettings(Section):
    """The broker. Without TLS only a broker on this machine is allowed, unless `insecure`."""

    host: Host = "127.0.0.1"
    port: Port = 1883
    base_topic: Topic | None = None
    client_id: Text | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_seconds: Annotated[int, Field(strict=True, ge=5, le=3600)] = 20
    score_interval_seconds: Seconds = 1.0
    drain_per_second: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1000
    username: Text | None = None
    password_file: File | None = None
    tls: Annotated[bool, Field(strict=True)] = False
    ca_file: File | None = None
    certificate_file: File | None = None
    key_file: File | None = None
    insecure: Annotated[bool, Field(strict=True)] = False


class BoardSettings(Section):
    """One board on one serial port; `uid` refuses any other board there."""

    port: File
    uid: Text | None = None
    baud: Annotated[int, Field(strict=True, ge=1200, le=12_000_000)] = 921_600


class AlarmOverride(Section):
    """When this asset alarms and how often people are told: what differs from its bundle, and what
    only the site can know. 0 turns a rule off."""

    on_delay_windows: Windows | None = None
    on_of_windows: Windows | None = None
    off_delay_windows: Windows | None = None
    clear_ratio: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    re_alarm_seconds: Pause = 60.0
    reminder_seconds: Pause = 0.0
    begins_an_hour: Annotated[int, Field(strict=True, ge=0, le=1000)] = 12
    quiet_seconds: Pause = 0.0
    ramp_channel: Text | None = None
    ramp_per_second: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _pairs(self) -> AlarmOverride:
        if (self.ramp_channel is None) != (self.ramp_per_second == 0.0):
            raise ValueError("ramp_channel and ramp_per_second go together: give both or neither")
        m, n = self.on_delay_windows, self.on_of_windows
        if n is not None and (m is None or m > n):
            raise ValueError("on_of_windows needs on_delay_windows beside it, and no more of them")
        return self

    def apply(self, spec: AlarmSpec) -> AlarmSpec:
        """The bundle's alarm with these changes."""
        changes = self.model_dump(exclude_none=True, include=set(AlarmSpec.model_fields))
        return spec.model_copy(update=changes)

    @property
    def policy(self) -> Policy:
        """How often people may be told."""
        return Policy(self.re_alarm_seconds, self.reminder_seconds, self.begins_an_hour)

    @property
    def quiet(self) -> QuietSpec:
        """Which windows neither alarm nor teach."""
        return QuietSpec(self.quiet_seconds, self.ramp_channel, self.ramp_per_second)


class LimitSettings(Section):
    """A limit that never adapts, of one channel or of every one: a number in the channel's unit,
    or the zones of ISO 20816-3 for a kind of machine."""

    channel: Text | None = None
    above: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    iso_20816: Machine | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> LimitSettings:
        if (self.above is None) == (self.iso_20816 is None):
            raise ValueError("give either above or iso_20816")
        return self

    @property
    def spec(self) -> LimitSpec:
        """What the pipeline works with."""
        return LimitSpec(self.channel, self.above, self.iso_20816)


class AssetSettings(Section):
    """One thing that is watched: which stream of which board, judged by which bundle."""

    board: Slug
    stream: Text
    bundle: File
    alarm: AlarmOverride = AlarmOverride()
    limits: tuple[LimitSettings, ...] = Field(default=(), max_length=64)


class StorageSettings(Section):
    """Where state lies. The outbox keeps at most this much while the broker is away, and so much
    of the wire around alarms stays as evidence."""

    state_dir: File = Path("/var/lib/edge-agent")
    outbox_limit_bytes: Annotated[int, Field(strict=True, ge=65_536)] = 200_000_000
    outbox_limit_rows: Annotated[int, Field(strict=True, ge=100)] = 200_000
    outbox_telemetry_days: Days = 7.0
    outbox_alert_days: Days = 90.0
    evidence_limit_bytes: Annotated[int, Field(strict=True, ge=2_000_000)] = 200_000_000
    evidence_daily_bytes: Annotated[int, Field(strict=True, ge=0)] = 16_000_000


class RecorderSettings(Section):
    """Captures of the wire, oldest deleted first. No `boards` means all of them."""

    directory: File
    limit_bytes: Annotated[int, Field(strict=True, ge=1_000_000)] = 1_000_000_000
    segment_seconds: Seconds = 600.0
    segment_bytes: Annotated[int, Field(strict=True, ge=65_536)] = 32_000_000
    boards: tuple[Slug, ...] = ()


class HealthSettings(Section):
    """How often the gateway tells how it is, and whether Prometheus is told, too: in a file that
    the node exporter collects, or on a port of this machine alone (0: on none)."""

    interval_seconds: Seconds = 60.0
    prometheus_file: File | None = None
    prometheus_port: Annotated[int, Field(strict=True, ge=0, le=65535)] = 0


class HomeAssistantSettings(Section):
    """Whether Home Assistant is told of each asset, below its discovery prefix."""

    discovery: Annotated[bool, Field(strict=True)] = False
    prefix: Topic = "homeassistant"


class Config(Section):
    """Everything `edge-agent run` needs to know."""

    schema_version: Literal[1] = 1
    trusted_keys: tuple[PublicKey, ...] = ()
    gateway: GatewaySettings
    mqtt: MqttSettings = MqttSettings()
    boards: dict[Slug, BoardSettings] = Field(min_length=1)
    assets: dict[Slug, AssetSettings] = Field(min_length=1)
    storage: StorageSettings = StorageSettings()
    recorder: RecorderSettings | None = None
    health: HealthSettings = HealthSettings()
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()

    @property
    def base_topic(self) -> str:
        """What every topic of this gateway begins with."""
        return self.mqtt.base_topic or f"otolith/{self.gateway.id}"


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")


def uses_tls(mqtt: MqttSettings) -> bool:
    """TLS is on when asked for, or when any of its files is named."""
    return mqtt.tls or bool(mqtt.ca_file or mqtt.certificate_file)
