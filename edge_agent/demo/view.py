"""The demo's screen: levels, score against threshold, state, and messages as they arrive.

In: facts of the pipelines, samples, messages of the subscriber. Out: something for rich to draw.
Never: decides anything; the last line of the demo comes from the messages alone.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge_agent.demo.broker import Received
from edge_agent.judging.pipeline import Fact, Judgement
from firmware_bridge.samples import Samples

TREND_WINDOWS = 48
MESSAGES_SHOWN = 7
BARS = " ▁▂▃▄▅▆▇█"
BAR_CELLS = 22
TOPIC_CELLS = 16
# The trend shows ratios from a tenth of the threshold to ten times it, logarithmically.
TREND_DECADES = 1.0


@dataclass
class AssetView:
    """What the screen knows of one asset."""

    channels: tuple[str, ...]
    unit: str
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=TREND_WINDOWS))
    levels: list[float] = field(default_factory=list)
    highest: float = 1e-9
    active: bool = False

    def take_samples(self, samples: Samples) -> None:
        """The level is the rms about the mean of the batch, or its distance from zero if slow."""
        self.levels = [float(level) for level in samples.values.std(axis=0)]
        self.highest = max(self.highest, *self.levels)


class View:
    """Collects and draws. `take` and `take_samples` come from the service's thread."""

    def __init__(self, assets: Mapping[str, AssetView]) -> None:
        self.assets = dict(assets)
        self.messages: deque[Received] = deque(maxlen=MESSAGES_SHOWN)
        self.received = 0
        self.headline = "waiting for the boards"

    def take(self, fact: Fact) -> None:
        """A fact of a pipeline."""
        if isinstance(fact, Judgement):
            asset = self.assets[fact.asset]
            asset.ratios.append(fact.ratio)
            asset.active = fact.active

    def take_samples(self, asset: str, samples: Samples) -> None:
        """A batch on its way into the pipeline."""
        self.assets[asset].take_samples(samples)

    def take_message(self, message: Received) -> None:
        """A message at the subscriber. Scores come all the time: they are counted, not listed."""
        self.received += 1
        if not message.topic.endswith("/score"):
            self.messages.append(message)

    def __rich__(self) -> RenderableType:
        """The whole screen, 80 columns wide."""
        return Group(
            Text(f" Otolith   {self.headline}", style="bold"),
            *(_panel(name, asset) for name, asset in self.assets.items()),
            Panel(
                _messages(self.messages),
                title=f"what a subscriber got ({self.received} messages, scores not shown)",
                title_align="left",
            ),
        )


def summary(received: Received) -> str:
    """One message in one line."""
    if received.topic.endswith("/picture"):
        return f"a picture of {len(received.payload)} bytes"
    try:
        fields = json.loads(received.payload)
    except ValueError:
        return received.payload.decode(errors="replace")
    if not isinstance(fields, dict):
        return str(fields)
    if "kind" in fields and "why" in fields:
        return f"{fields['kind']}, severity {fields.get('severity')}: {fields['why']}"
    if "matrix" in fields:
        return f"{len(fields['rows'])} channels by {len(fields['columns'])} {fields['axis']}s"
    kept = {key: value for key, value in fields.items() if key in ("state", "score_ratio", "ratio")}
    return ", ".join(f"{key} {value}" for key, value in kept.items()) or f"{len(fields)} fields"


def _panel(name: str, asset: AssetView) -> Panel:
    grid = Table.grid(padding=(0, 1))
    levels = asset.levels or [0.0] * len(asset.channels)
    for channel, level in zip(asset.channels, levels, strict=False):
        cells = round(BAR_CELLS * min(level / asset.highest, 1.0))
        bar = Text("█" * cells, style="cyan") + Text("·" * (BAR_CELLS - cells), style="dim")
        grid.add_row(f"{channel:>7}", bar, f"{level:8.4f} {asset.unit}")
    grid.add_row("score", _trend(asset.ratios), _ratio(asset.ratios))
    state = Text(" ALARM ", "bold white on red") if asset.active else Text(" ok ", "black on green")
    return Panel(grid, title=Text.assemble(name, "  ", state), title_align="left")


def _trend(ratios: deque[float]) -> Text:
    """Red from the threshold on."""
    trend = Text()
    for ratio in list(ratios)[-2 * BAR_CELLS :]:
        height = 0.5 + np.log10(max(ratio, 1e-9)) / (2 * TREND_DECADES)
        cell = BARS[1 + int(np.clip(height, 0.0, 0.999) * (len(BARS) - 1))]
        trend.append(cell, "red" if ratio >= 1.0 else "green")
    return trend


def _ratio(ratios: deque[float]) -> str:
    return f"{ratios[-1]:.2f} x threshold" if ratios else "no window yet"


def _messages(messages: deque[Received]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="cyan", no_wrap=True, min_width=TOPIC_CELLS)
    grid.add_column(overflow="ellipsis", no_wrap=True)
    for received in messages:
        grid.add_row(received.topic.removeprefix("otolith/"), summary(received))
    return grid
