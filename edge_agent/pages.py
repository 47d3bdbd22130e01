"""Pages: what people read in a terminal. Only commands that draw import this file, and rich.

In: a bundle, or what a replay found. Out: a page on standard output, 80 columns wide or more.
Never: computes anything that is not in `--json`, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_agent.bundles.bundle import Bundle
from edge_agent.bundles.manifest import Manifest, SmoothFrontEnd, SpectralFrontEnd

EVENTS_SHOWN = 40
NAMES_SHOWN = 3


def bundle_page(path: Path, bundle: Bundle, verified: bool) -> None:
    """What the model is, what it wants to be fed, how good it was, where it came from."""
    console, manifest = Console(), bundle.manifest
    page = Table.grid(padding=(0, 2))
    page.add_column(style="cyan", no_wrap=True)
    page.add_column()
    signature = "checked" if verified else "there, not checked (--key)" if bundle.signed else "none"
    model = manifest.model
    rows = {
        "bundle": f"{manifest.name}, serial {manifest.serial}, {manifest.created}",
        "model": f"{model.family}, {model.steps} x {model.features} features, "
        f"{model.parameters} parameters, {sum(e.bytes for e in manifest.files.values())} bytes",
        "sensor": f"{', '.join(manifest.sensor.channels)} in {manifest.sensor.unit} "
        f"at {manifest.sensor.rate_hz:g} Hz",
        "front end": _front_end(manifest),
        "window": _window(manifest),
        "threshold": _threshold(manifest),
        "alarm": f"on after {manifest.alarm.on_delay_windows} windows, off after "
        f"{manifest.alarm.off_delay_windows} below {manifest.alarm.clear_ratio:g} x threshold",
        "recordings": _recordings(list(manifest.provenance.recordings)),
        "made with": ", ".join(f"{k} {v}" for k, v in manifest.provenance.versions.items()),
        "sha256": f"bundle {bundle.sha256}\nmodel  {manifest.files['model.tflite'].sha256}",
        "signature": signature,
    }
    for name, text in rows.items():
        page.add_row(name, text)
    console.print(page)
    measures = _measures(manifest.measures)
    if measures.row_count:
        console.print(measures)
    console.print(str(path), style="dim", soft_wrap=True)


def replay_page(recording: Path, events: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """The events in order, then the numbers."""
    console = Console()
    table = Table(title=f"{recording.name}: {len(events)} events")
    for column in ("time s", "what", "ratio", "severity", "why"):
        table.add_column(column, overflow="fold")
    for event in events[:EVENTS_SHOWN]:
        ratio = f"{event['ratio']:.2f}" if "ratio" in event else ""
        severity = str(event.get("severity", ""))
        table.add_row(f"{event['t']:.3f}", event["kind"], ratio, severity, event["why"])
    if len(events) > EVENTS_SHOWN:
        table.add_row("", f"... {len(events) - EVENTS_SHOWN} more (--json)", "", "", "")
    console.print(table)
    console.print(
        f"{summary['windows']} windows of {summary['seconds_of_data']:.1f} s in "
        f"{summary['seconds_taken']:.2f} s ({summary['times_real_time']:.0f} x real time), "
        f"{summary['episodes']} episodes, {summary['samples_lost']} samples lost"
    )


def _recordings(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more (--json)" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more if names else "none named"


def _front_end(manifest: Manifest) -> str:
    spec = manifest.front_end
    if isinstance(spec, SpectralFrontEnd):
        return (
            f"spectral: {spec.segments} segments of {spec.segment_length}, {spec.bands} bands "
            f"from {spec.low_hz:g} to {spec.high_hz:g} Hz"
        )
    if isinstance(spec, SmoothFrontEnd):
        return f"smooth: alpha {spec.ewma_alpha:g}, every {spec.decimate}th row"
    return spec.kind


def _window(manifest: Manifest) -> str:
    hop, window = manifest.hop_seconds, manifest.window
    seconds = hop * window.length / window.hop
    return f"{window.length} rows ({seconds:.3g} s), a score every {hop:.3g} s"


def _threshold(manifest: Manifest) -> str:
    threshold = manifest.threshold
    doubt = " - PROVISIONAL: too few windows for an honest one" if threshold.provisional else ""
    return (
        f"{threshold.value:.6g} ({threshold.method}, from {threshold.windows} held-out normal "
        f"windows){doubt}{_bins(manifest)}"
    )


def _bins(manifest: Manifest) -> str:
    """Which threshold holds at which speed."""
    bins = manifest.threshold.bins
    each = (f"{one.low:.4g} to {one.high:.4g}: {one.value:.4g}" for one in bins)
    return f"\nby {manifest.sensor.speed_channel}: {', '.join(each)}" if bins else ""


def _measures(measures: dict[str, Any]) -> Table:
    """Detectors as columns, measures as rows; whatever is not of that shape has one row."""
    table = Table(title="measures", title_justify="left")
    detectors = [name for name, value in measures.items() if isinstance(value, dict)]
    rows = list(dict.fromkeys(key for name in detectors for key in measures[name]))
    table.add_column("")
    for name in detectors:
        table.add_column(name, justify="right")
    for key in rows:
        table.add_row(key, *(_number(measures[name].get(key, "")) for name in detectors))
    for name, value in measures.items():
        if name not in detectors:
            table.add_row(name, _number(value))
    return table


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
