"""Verdict: what a build is worth, as a table for people and as one object for scripts.

In: a `Built`. Out: lines on standard output, the reasons against it on standard error.
Never: decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.build import Built
from converter.console import print_line, print_note, print_table
from converter.fidelity import Rated
from converter.filling import measures
from converter.index_cost import IndexCost
from converter.layers import LayerError
from converter.transfer import weights_path
from edge_agent.judging.threshold import LEAST_BIN_WINDOWS


def verdict(built: Built, out: Path) -> dict[str, Any]:
    """What scripts hang on: the last line of `--json`."""
    comparison = built.comparison
    document = measures(comparison)
    rows = {"float": comparison.float32, "int8": comparison.int8, "linear": comparison.linear}
    for key, rated in rows.items():
        if rated is not None:
            document[key]["latency_us"] = round(rated.latency_us, 1)
            document[key]["invoke_us"] = rounded_us(rated.invoke_us)
    return {
        "bundle": str(out) if comparison.accepted else None,
        "weights": str(weights_path(out)) if comparison.accepted else None,
        **document,
        "windows": built.windows,
        "qat": built.learned._asdict(),
        **({"index": built.index_cost._asdict()} if built.index_cost else {}),
        "accepted": comparison.accepted,
        "reasons": list(comparison.reasons),
    }


def show(name: str, built: Built, out: Path) -> None:
    """The verdict as a table, the reasons against it on standard error."""
    comparison = built.comparison
    rows = [
        _row("float", comparison.float32),
        *([_row("int8", comparison.int8)] if comparison.int8 else []),
        _row("linear (PCA)", comparison.linear),
    ]
    header = ("model", "AUC", "threshold", "false", "detected", "bytes", "us a window", "us bare")
    print_table(header, rows, name)
    if comparison.int8:
        print_line(
            f"int8: {comparison.size_ratio:.1%} of the float file, Spearman of the scores "
            f"{comparison.spearman:.4f}, alarms agree on {comparison.alarm_agreement:.2%}"
        )
    _show_learned(built)
    if built.index_cost:
        print_line(_index_line(built.index_cost))
    if comparison.float32.threshold.provisional:
        print_line(f"* provisional: {built.windows['held_out']} held-out windows, 1000 are better")
    _show_bins(comparison.int8)
    if comparison.accepted:
        print_line(f"written: {out}")
    for reason in comparison.reasons:
        print_note(f"edge-converter: refused: {reason}")


def _show_bins(int8: Rated | None) -> None:
    bins = int8.threshold.bins if int8 else ()
    if not bins:
        return
    few = sum(one.windows < LEAST_BIN_WINDOWS for one in bins)
    doubt = f", {few} with under {LEAST_BIN_WINDOWS} windows take that of all" if few else ""
    print_line(f"speed: {len(bins)} bins from {bins[0].low:.4g} to {bins[-1].high:.4g}{doubt}")


def show_layers(layers: tuple[LayerError, ...]) -> None:
    """What int8 costs, operation by operation."""
    rows: list[tuple[str, ...]] = [
        (layer.name, layer.operation, f"{layer.error:.2%}", f"{layer.added:+.2%}")
        for layer in layers
    ]
    header = ("layer", "operation", "error", "added")
    print_table(header, rows, "int8 against float, of the rms of each layer's output")


def _show_learned(built: Built) -> None:
    learned = built.learned
    if learned.tried:
        print_line(
            f"learned to be rounded: Spearman {learned.spearman_before:.4f} -> "
            f"{learned.spearman_after:.4f}, {'used' if learned.used else 'not used'}"
        )
    elif learned.why_not:
        print_line(f"not learned to be rounded: {learned.why_not}")


def _index_line(cost: IndexCost) -> str:
    return (
        f"{cost.nearest} of {cost.slots} slots read: the index finds {cost.recall:.2%} of them, "
        f"Spearman {cost.spearman_exact:.4f} beside the exact ones, {cost.spearman_all:.4f} beside "
        f"all slots; {cost.index_us:.0f} us a window, {cost.exact_us:.0f} and {cost.all_us:.0f}"
    )


def _row(name: str, rated: Rated) -> tuple[str, ...]:
    return (
        name,
        _number(rated.auc, ".4f"),
        f"{rated.threshold.value:.4g}" + ("*" if rated.threshold.provisional else ""),
        _number(rated.false_share, ".2%"),
        _number(rated.detected_share, ".2%"),
        str(rated.bytes),
        f"{rated.latency_us:.0f}",
        _number(rated.invoke_us, ".0f"),
    )


def rounded_us(value: float | None) -> float | None:
    """Microseconds as they are printed."""
    return None if value is None else round(value, 1)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
