"""Reading: a file and the environment to a `Config`, or to everything that is wrong with them.

In: a path, variables. Out: settings with absolute paths, or one `ConfigError`. Never: takes half
of a file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from edge_agent.config.checks import cross_checks
from edge_agent.config.environment import overridden, read_environment
from edge_agent.config.origins import Origins
from edge_agent.config.problems import ConfigError, Problem
from edge_agent.config.settings import Config
from edge_agent.config.toml_hints import hint
from edge_agent.config.words import in_words

MAX_CONFIG_BYTES = 1 << 20


class Loaded(NamedTuple):
    """A configuration, and where each of its values comes from."""

    config: Config
    origins: Origins


def load_config(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Reads and checks; without an `environment` it is that of the process.

    Raises `ConfigError` for the content, `OSError` for the file.
    """
    return read_config(file, environment).config


def read_config(file: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """As `load_config`, for those who want to know why a value is what it is."""
    text = _text(file)
    document = _document(file, text)
    variables = os.environ if environment is None else environment
    overrides, problems = read_environment(variables, document)
    origins = Origins(file, text, document, overrides)
    document = overridden(document, overrides)
    found = cross_checks(document)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        found += [in_words(each) for each in error.errors(include_url=False)]
    problems += [origins.problem(path, told) for path, told in found]
    if problems:
        raise ConfigError(file, problems)
    return Loaded(_absolute(config, file.resolve().parent), origins)


def _text(file: Path) -> str:
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(file, [Problem((), 1, f"over {MAX_CONFIG_BYTES} bytes: not ours")])
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(file, [Problem((), line, "not UTF-8 text: save it as UTF-8")]) from None


def _document(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also an integer of thousands of digits
        raise ConfigError(file, [_syntax(str(error), text)]) from None
    except RecursionError:
        raise ConfigError(file, [Problem((), 1, "brackets in brackets without end")]) from None


def _syntax(message: str, text: str) -> Problem:
    told, _, place = message.rpartition(" (at ")
    digits = "".join(c for c in place.partition(",")[0] if c.isdigit())
    lines = text.removesuffix("\n").split("\n")
    line = int(digits) if digits else len(lines)
    what = f"not TOML: {told or message}"
    advice = hint(told, lines[line - 1]) if line <= len(lines) else ""
    return Problem((), line, f"{what}; {advice}" if advice else what)


def _absolute(config: Config, folder: Path) -> Config:
    """All paths count from the configuration's folder."""

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
