"""Masking: text without what opens a door, or tells who comes through it.

In: a configuration, texts. Out: the same texts with `***` in place of secrets. Never: keeps a
secret longer than its run, trusts a name alone: the values themselves are looked for, in whatever
text they have got into, and what looks like a secret goes, too.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from edge_agent.config import Config

MASK = "***"
# systemd keeps a service's credentials here; the person who asks is seldom the service.
CREDENTIALS = Path("/run/credentials/edge-agent.service")
MAX_SECRET_BYTES = 65_536
# Where somebody keeps the configuration in a full folder: not all of it, and no process number.
MAX_FILES, MIN_PASSWORD_CHARACTERS = 200, 6
# A shorter secret goes where it stands alone; else a password of "a" would take every "a".
MIN_FREE_CHARACTERS = 4
# Fewer letters of base64 stand in many a text by chance.
MIN_BASE64_CHARACTERS = 6
# Lines of a key are long; those between them (-----BEGIN) are no secret.
MIN_KEY_LINE_CHARACTERS = 16

# Before the value there may be quotes, escaped ones, too: JSON within JSON.
NAMED = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|api[_-]?key|private[_-]?key)s?"
    r"\\*[\"']?(?:\s*(?:=>?|:)\s*|\s+(?=[\"']))"
)
LOOKS = (
    # Up to the last @: a password may have one, too.
    re.compile(r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"<>]+(?=@)"),
    # The same without a scheme: user:password@host.
    re.compile(
        r"(?P<keep>(?:^|[\s'\"=/(])[^\s'\"=/:@]+:(?!//))[^\s'\"]+(?=@[A-Za-z0-9\[])", re.MULTILINE
    ),
    # To its end, or, where that is missing, as long as it looks like one.
    re.compile(
        r"(?P<keep>)-----BEGIN [A-Z ]*PRIVATE KEY-----"
        r"(?:(?s:.{0,10000}?)-----END [A-Z ]*-----|[^\n]*(?:\n[A-Za-z0-9+/=]+$)*)",
        re.MULTILINE,
    ),
    re.compile(
        rf"(?i)(?P<keep>{NAMED})"
        r"(?:\\+\"[^\"\\\n]*|\"[^\"\n]*\"|'[^'\n]*'|[^\s,;]+)"
    ),
    re.compile(r"(?i)(?P<keep>\b(?:Basic|Bearer) )[A-Za-z0-9+/=._~-]{8,}"),
    # What a program was called with.
    re.compile(
        r"(?P<keep>(?:^|\s)(?:-P ?|(?:--pw|--pass(?:word|wd|phrase)?|sshpass -p)[ =]|-u [^\s:]+:))"
        r"(?:\"[^\"\n]*\"|'[^'\n]*'|\S+)",
        re.MULTILINE,
    ),
)


class Mask:
    """What must not be seen, as values and by its looks; `names` only as whole words, as they are
    no secret for themselves. `unread` are files of secrets that could not be read: what they say
    can't be looked for."""

    def __init__(
        self, secrets: Iterable[str], names: Iterable[str] = (), unread: Iterable[str] = ()
    ) -> None:
        forms = {form: _pattern(form) for secret in secrets for form in _forms(secret)}
        for name in names:
            forms |= {form: _alone(form) for form in _forms(name) if form not in forms}
        # The longest first: one may be part of another.
        parts = [forms[form] for form in sorted(forms, key=len, reverse=True)]
        self._values = re.compile("|".join(parts)) if parts else None
        self.unread = tuple(unread)

    def text(self, text: str) -> str:
        """Without secrets."""
        if self._values:
            text = self._values.sub(MASK, text)
        for look in LOOKS:
            text = look.sub(rf"\g<keep>{MASK}", text)
        return text

    def value(self, value: Any) -> Any:
        """What JSON can hold, each text in it masked, and bytes as text."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        if isinstance(value, bytes):
            return self.text(value.hex())
        return value if isinstance(value, bool | int | float | None) else self.text(str(value))


def mask_of(config: Config | None, folder: Path | None = None) -> Mask:
    """Who knows all secrets that this configuration leads to, systemd's credentials, and what lies
    in `folder` for its owner alone: credentials of a service that does not run come from there."""
    secrets: list[str] = []
    names: list[str] = []
    unread: list[str] = []
    folders = [CREDENTIALS, Path(os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS)]
    files = [file for folder in dict.fromkeys(folders) for file in _files(folder)]
    if config:
        mqtt = config.mqtt
        secrets += config.trusted_keys
        names += [mqtt.username] if mqtt.username else []
        files += [file for file in (mqtt.password_file, mqtt.key_file) if file]
    for file in files:
        try:
            with file.open("rb") as stream:
                content = stream.read(MAX_SECRET_BYTES)
        except OSError as error:
            unread.append(f"{file}: {error.strerror or error}")
            continue
        secrets += _of_file(content.decode("utf-8", "replace"))
    secrets += _kept_in(folder) if folder else []
    return Mask(secrets, names, unread)


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(file for file in folder.iterdir() if file.is_file())
    return []


def _kept_in(folder: Path) -> Iterator[str]:
    """Passwords (one line) and private keys of a folder, if only their owner can read them; a
    configuration may be closed to others, too, and is no secret as a whole."""
    for file in _files(folder)[:MAX_FILES]:
        with suppress(OSError, UnicodeDecodeError):
            if file.stat().st_mode & 0o077 or file.stat().st_size > MAX_SECRET_BYTES:
                continue
            content = file.read_text(encoding="utf-8").strip()
            password = len(content.splitlines()) == 1 and len(content) >= MIN_PASSWORD_CHARACTERS
            if password or "PRIVATE KEY-----" in content:
                yield from _of_file(content)


def _of_file(content: str) -> Iterator[str]:
    """The whole, and of a key each line: a log may quote one of them."""
    yield content.strip()
    lines = content.splitlines()
    if len(lines) > 1:
        for line in lines:
            if len(line) >= MIN_KEY_LINE_CHARACTERS and not line.startswith("-----"):
                yield line.strip()


def _forms(secret: str) -> Iterator[str]:
    """As it is, in JSON, in a URL, as base64 and in hex."""
    if not secret:
        return
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
    if len(raw) >= MIN_FREE_CHARACTERS:
        yield base64.b64encode(raw).decode()
        yield from _within_base64(raw)
        for separator in ("", ":", " "):
            digits = raw.hex(separator) if separator else raw.hex()
            yield digits
            yield digits.upper()


def _within_base64(raw: bytes) -> Iterator[str]:
    """What is in the base64 of a longer text (user:password, JSON), wherever it stands in there:
    its letters without those that have bits of its neighbours."""
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(raw)) // 6
        letters = base64.b64encode(bytes(before) + raw + b"\0\0")[first:last].decode()
        if len(letters) >= MIN_BASE64_CHARACTERS:
            yield letters
            yield letters.replace("+", "-").replace("/", "_")


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) >= MIN_FREE_CHARACTERS else _alone(form)


def _alone(form: str) -> str:
    return rf"(?<!\w){re.escape(form)}(?!\w)"
