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
# A shorter secret goes where it stands alone; else a password of "a" would take every "a".
MIN_FREE_CHARACTERS = 4
# Lines of a key are long; those between them (-----BEGIN) are no secret.
MIN_KEY_LINE_CHARACTERS = 16

LOOKS = (
    # Up to the last @: a password may have one, too.
    re.compile(r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"<>]+(?=@)"),
    # To its end, or, where that is missing, as long as it looks like one.
    re.compile(
        r"(?P<keep>)-----BEGIN [A-Z ]*PRIVATE KEY-----"
        r"(?:(?s:.{0,10000}?)-----END [A-Z ]*-----|[^\n]*(?:\n[A-Za-z0-9+/=]+$)*)",
        re.MULTILINE,
    ),
    re.compile(
        r"(?i)(?P<keep>\b(?:password|passwd|passphrase|secret|token|api[_-]?key)\b[\"']?\s*[=:]\s*)"
        r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s,;]+)"
    ),
    # What a program was called with.
    re.compile(r"(?P<keep>(?:^|\s)(?:-P|--pw|--pass(?:word|wd|phrase)?)[ =])\S+", re.MULTILINE),
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


def mask_of(config: Config | None) -> Mask:
    """Who knows all secrets that this configuration leads to, and systemd's credentials."""
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
    return Mask(secrets, names, unread)


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(file for file in folder.iterdir() if file.is_file())
    return []


def _of_file(content: str) -> Iterator[str]:
    """The whole, and of a key each line: a log may quote one of them."""
    yield content.strip()
    lines = content.splitlines()
    if len(lines) > 1:
        for line in lines:
            if len(line) >= MIN_KEY_LINE_CHARACTERS and not line.startswith("-----"):
                yield line.strip()


def _forms(secret: str) -> Iterator[str]:
    """As it is, in JSON, in a URL, and as base64."""
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
        yield raw.hex()


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) >= MIN_FREE_CHARACTERS else _alone(form)


def _alone(form: str) -> str:
    return rf"(?<!\w){re.escape(form)}(?!\w)"
