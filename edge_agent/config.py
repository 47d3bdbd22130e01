"""Config: the TOML file of a gateway to frozen settings with units in their names.

In: a path. Out: a `Config`, or one `ConfigError` with every problem of the file at once, each as
`file:line: key: what was seen, what is allowed`. Never: opens a port or a connection, guesses.
An unknown key is an error: a typo must not pass for a default. Relative paths count from the file.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from edge_agent.manifest import AlarmSpec
from edge_agent.toml_lines import KeyPath, TomlLines

Slug: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Topic: TypeAlias = Annotated[str, Field(pattern=r"^[^+#/\x00$][^+#\x00]{0,199}$")]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=255)]
Port: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=65535)]
Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]

MAX_CONFIG_BYTES = 1 << 20
# These are topics of the gateway itself, directly under the base.
RESERVED_ASSETS = ("status", "info", "health", "board", "cmd", "cmd_result")
CREDENTIAL = "mqtt-password"


class Section(BaseModel):
    """Immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GatewaySettings(Section):
    """Who this gateway is; `id` is a stable slug, not the host name."""

    id: Slug


class MqttSettings(Section):
    """The broker. Without TLS only a broker on this machine is allowed, unless `insecure`."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    base_topic: Topic | None = None
    client_id: Text | None = None
    keepalive_seconds: Annotated[int, Field(strict=True, ge=5, le=3600)] = 20
    score_interval_seconds: Seconds = 1.0
    username: Text | None = None
    password_file: Path | None = None
    tls: Annotated[bool, Field(strict=True)] = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    insecure: Annotated[bool, Field(strict=True)] = False


class BoardSettings(Section):
    """One board on one serial port; `uid` refuses any other board there."""

    port: Path
    uid: Text | None = None
    baud: Annotated[int, Field(strict=True, ge=1200, le=12_000_000)] = 921_600


class AlarmOverride(Section):
    """What this asset does differently from its bundle's alarm."""

    on_delay_windows: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    off_delay_windows: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    clear_ratio: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None

    def apply(self, spec: AlarmSpec) -> AlarmSpec:
        """The bundle's alarm with these changes."""
        return spec.model_copy(update=self.model_dump(exclude_none=True))


class AssetSettings(Section):
    """One thing that is watched: which stream of which board, judged by which bundle."""

    board: Slug
    stream: Text
    bundle: Path
    alarm: AlarmOverride = AlarmOverride()


class StorageSettings(Section):
    """Where state lies. The outbox keeps at most this much while the broker is away."""

    state_dir: Path = Path("/var/lib/edge-agent")
    outbox_limit_bytes: Annotated[int, Field(strict=True, ge=65_536)] = 64_000_000
    outbox_limit_rows: Annotated[int, Field(strict=True, ge=100)] = 200_000


class RecorderSettings(Section):
    """Captures of the wire, oldest deleted first. No `boards` means all of them."""

    directory: Path
    limit_bytes: Annotated[int, Field(strict=True, ge=1_000_000)] = 1_000_000_000
    segment_seconds: Seconds = 600.0
    segment_bytes: Annotated[int, Field(strict=True, ge=65_536)] = 32_000_000
    boards: tuple[Slug, ...] = ()


class HealthSettings(Section):
    """How often the gateway tells how it is."""

    interval_seconds: Seconds = 60.0


class Config(Section):
    """Everything `edge-agent run` needs to know."""

    schema_version: Literal[1] = 1
    trusted_keys: tuple[Text, ...] = ()
    gateway: GatewaySettings
    mqtt: MqttSettings = MqttSettings()
    boards: dict[Slug, BoardSettings] = Field(min_length=1)
    assets: dict[Slug, AssetSettings] = Field(min_length=1)
    storage: StorageSettings = StorageSettings()
    recorder: RecorderSettings | None = None
    health: HealthSettings = HealthSettings()

    @property
    def base_topic(self) -> str:
        """What every topic of this gateway begins with."""
        return self.mqtt.base_topic or f"otolith/{self.gateway.id}"


class Problem(NamedTuple):
    """One thing that is wrong with the file."""

    path: KeyPath
    line: int
    text: str


class ConfigError(ValueError):
    """The file can't be used; `problems` are all of them, in the order of their lines."""

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: problem.line)
        lines = (f"{file}:{p.line}: {'.'.join(p.path)}: {p.text}" for p in self.problems)
        super().__init__("\n".join(line.replace(": : ", ": ") for line in lines))


def load_config(file: Path) -> Config:
    """Reads and checks. Raises `ConfigError` for the content, `OSError` for the file."""
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(file, [Problem((), 1, f"over {MAX_CONFIG_BYTES} bytes: not ours")])
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(file, [Problem((), line, "not UTF-8 text: save it as UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [_syntax(str(error), text)]) from None
    found = _cross_checks(document)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        found += [(_path(each["loc"]), _told(each)) for each in error.errors()]
    if found:
        lines = TomlLines(text)
        raise ConfigError(file, [Problem(path, lines.line(path), told) for path, told in found])
    return _resolved(config, file.resolve().parent)


def read_password(mqtt: MqttSettings) -> str | None:
    """The broker's password: from its file, or systemd's credential `mqtt-password`.

    Raises `OSError` if the file can't be read, `ValueError` if everybody can.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = mqtt.password_file
    if file is None and folder and (Path(folder) / CREDENTIAL).exists():
        file = Path(folder) / CREDENTIAL
    if file is None:
        return None
    if file.stat().st_mode & 0o004:
        raise ValueError(f"{file} can be read by everybody: chmod 600 {file}")
    return file.read_text(encoding="utf-8").strip()


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")


def uses_tls(mqtt: MqttSettings) -> bool:
    """TLS is on when asked for, or when any of its files is named."""
    return mqtt.tls or bool(mqtt.ca_file or mqtt.certificate_file)


def did_you_mean(seen: str, known: list[str]) -> str:
    """`; did you mean x?` for a near miss, else what there is."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(seen.lower(), lower, 1, 0.6)
    if near:
        return f"did you mean {lower[near[0]]}?"
    return f"allowed: {', '.join(known)}" if known else "there is none"


def _syntax(message: str, text: str) -> Problem:
    told, _, place = message.rpartition(" (at ")
    digits = "".join(c for c in place.partition(",")[0] if c.isdigit())
    line = int(digits) if digits else max(1, len(text.splitlines()))
    return Problem((), line, f"not TOML: {told or message}")


def _path(loc: tuple[int | str, ...]) -> KeyPath:
    return tuple(str(part) for part in loc if part != "[key]")


def _told(error: ErrorDetails) -> str:
    """What was seen, what is allowed."""
    loc, kind = error["loc"], error["type"]
    if kind == "extra_forbidden":
        return f"unknown key; {did_you_mean(str(loc[-1]), _known_keys(loc[:-1]))}"
    if kind == "missing":
        return "is missing; it must be given"
    seen = repr(error["input"])
    if len(seen) > 80:
        seen = seen[:77] + "..."
    return f"saw {seen}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at `loc` may have."""
    tables: dict[tuple[str, ...], type[BaseModel]] = {
        (): Config,
        ("boards", "*"): BoardSettings,
        ("assets", "*"): AssetSettings,
        ("assets", "*", "alarm"): AlarmOverride,
        ("gateway",): GatewaySettings,
        ("mqtt",): MqttSettings,
        ("storage",): StorageSettings,
        ("recorder",): RecorderSettings,
        ("health",): HealthSettings,
    }
    named = loc[:1] in (("boards",), ("assets",)) and len(loc) > 1
    pattern = tuple(str(part) for part in ((loc[0], "*", *loc[2:]) if named else loc))
    model = tables.get(pattern)
    return list(model.model_fields) if model else []


def _cross_checks(document: dict[str, Any]) -> list[tuple[KeyPath, str]]:
    """What no single key can tell; on the raw document, so that it joins the other errors."""
    boards, assets = _table(document, "boards"), _table(document, "assets")
    found: list[tuple[KeyPath, str]] = []
    for name, asset in assets.items():
        if name in RESERVED_ASSETS:
            found.append((("assets", name), f"the name {name} is a topic of the gateway itself"))
        board = asset.get("board") if isinstance(asset, dict) else None
        if isinstance(board, str) and board not in boards:
            told = f"saw {board!r}, no such board; {did_you_mean(board, list(boards))}"
            found.append((("assets", name, "board"), told))
    first: dict[Any, str] = {}
    for name, board in boards.items():
        port = board.get("port") if isinstance(board, dict) else None
        if isinstance(port, str) and first.setdefault(port, name) != name:
            told = f"saw {port!r}, which is the port of board {first[port]} already"
            found.append((("boards", name, "port"), told))
    wanted = _table(document, "recorder").get("boards", [])
    for name in wanted if isinstance(wanted, list) else []:
        if isinstance(name, str) and name not in boards:
            told = f"saw {name!r}, no such board; {did_you_mean(name, list(boards))}"
            found.append((("recorder", "boards"), told))
    if "recorder" in document:
        found += _recorder_checks(_table(document, "recorder"), len(boards))
    return found + _mqtt_checks(_table(document, "mqtt"))


def _recorder_checks(recorder: dict[str, Any], boards: int) -> list[tuple[KeyPath, str]]:
    fields = RecorderSettings.model_fields
    limit, segment = (
        recorder.get(key, fields[key].default) for key in ("limit_bytes", "segment_bytes")
    )
    if not isinstance(limit, int) or not isinstance(segment, int) or limit >= 2 * boards * segment:
        return []
    told = f"saw {limit}; must hold two segments a board, at least {2 * boards * segment}"
    return [(("recorder", "limit_bytes"), told)]


def _mqtt_checks(mqtt: dict[str, Any]) -> list[tuple[KeyPath, str]]:
    found: list[tuple[KeyPath, str]] = []
    host = mqtt.get("host", "127.0.0.1")
    encrypted = mqtt.get("tls") or "ca_file" in mqtt or "certificate_file" in mqtt
    if isinstance(host, str) and not (encrypted or mqtt.get("insecure") or is_loopback(host)):
        told = (
            f"saw {host!r} without TLS; name a ca_file or set tls = true, "
            "or insecure = true if everybody on that network may read and forge alerts"
        )
        found.append((("mqtt", "host"), told))
    for one, other in (("certificate_file", "key_file"), ("key_file", "certificate_file")):
        if one in mqtt and other not in mqtt:
            found.append((("mqtt", one), f"needs {other} beside it"))
    if "password_file" in mqtt and "username" not in mqtt:
        found.append((("mqtt", "password_file"), "needs username beside it"))
    return found


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _resolved(config: Config, folder: Path) -> Config:
    """All paths absolute."""

    def absolute(section: Any) -> Any:
        if isinstance(section, Path):
            return folder / section
        if isinstance(section, dict):
            return {key: absolute(value) for key, value in section.items()}
        if isinstance(section, BaseModel):
            changed = {key: absolute(getattr(section, key)) for key in type(section).model_fields}
            return section.model_copy(update=changed)
        return section

    resolved: Config = absolute(config)
    return resolved
