"""`edge-agent bundle install | list | rollback`: which bundle judges an asset.

In: parsed options. Out: an exit code (0 done, 1 refused, 2 no such asset), lines or JSON.
Never: restarts a service: one that runs is asked to judge by it from now on, and can say no.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.bundles.bundle import Bundle, BundleError, read_bundle
from edge_agent.bundles.installing import Done, install, roll_back
from edge_agent.bundles.shelf import folder_of, pointer_of
from edge_agent.config import Config, load_config

EXIT_OK, EXIT_NO, EXIT_USAGE = 0, 1, 2
RESTART = "systemctl restart edge-agent"


def bundle_command(options: Namespace) -> int:
    """One of the three."""
    config = load_config(options.config)
    if options.asset is not None and options.asset not in config.assets:
        known = ", ".join(config.assets)
        sys.stderr.write(f"edge-agent: no asset {options.asset!r}; {options.config} has: {known}\n")
        return EXIT_USAGE
    if options.do == "list":
        return _list(options, config)
    try:
        if options.do == "install":
            done = install(options.file, options.asset, config, options.force_sensor)
        else:
            done = roll_back(options.asset, config)
    except ValueError as error:
        if not options.json:
            raise  # said on standard error
        _write(json.dumps({"ok": False, "asset": options.asset, "problem": str(error)}))
        return EXIT_NO
    _tell(options, done)
    return EXIT_OK


def _tell(options: Namespace, done: Done) -> None:
    bundle, manifest = done.bundle, done.bundle.manifest
    if options.json:
        _write(
            json.dumps(
                {
                    "ok": True, "asset": options.asset, **_about(bundle),
                    "before": _about(done.before) if done.before else None,
                    "highest_serial": done.pointer.highest_serial, "window_ms": done.window_ms,
                    "taken_up": done.taken_up.now, "told": done.taken_up.told,
                    "restart": None if done.taken_up.now else RESTART,
                }
            )
        )  # fmt: skip
        return
    ran = "" if done.window_ms is None else f", {done.window_ms:g} ms a window here"
    verb = "installed" if options.do == "install" else "taken back"
    _write(f"{options.asset}: {verb}: {manifest.name}, serial {manifest.serial}{ran}")
    if done.taken_up.now:
        _write(done.taken_up.told)
    else:
        _write(f"judges from the next start on ({RESTART}): {done.taken_up.told}")


def _list(options: Namespace, config: Config) -> int:
    assets = [options.asset] if options.asset else list(config.assets)
    rows = [row for asset in assets for row in _rows(asset, config)]
    for row in rows:
        if options.json:
            _write(json.dumps(row))
        elif "problem" in row:
            _write(f"{row['asset']:16} {row['state']:11} {row['file']}: {row['problem']}")
        else:
            signed = "signed" if row["signed"] else "unsigned"
            _write(
                f"{row['asset']:16} {row['state']:11} {row['name']}, serial {row['serial']}, "
                f"{row['sha256'][:8]}, {row['created']}, {signed}"
            )
    if options.json:
        _write(json.dumps({"ok": True, "bundles": len(rows)}))
    return EXIT_OK


def _rows(asset: str, config: Config) -> Iterator[dict[str, Any]]:
    """What judges first, then what is kept, the configured one last. `state`: current (judges),
    previous (a rollback leads there), kept, configured (named in the configuration; of no use
    while another one is installed)."""
    configured, state_dir = config.assets[asset].bundle, config.storage.state_dir
    pointer = pointer_of(state_dir, asset)
    if pointer is None:
        yield _row(asset, "current", configured, config)
        return
    at = pointer.kept.index(pointer.current)
    for place, name in enumerate(pointer.kept):
        state = {at: "current", at + 1: "previous"}.get(place, "kept")
        row = _row(asset, state, folder_of(state_dir, asset) / name, config)
        yield {**row, "switched": pointer.switched} if place == at else row
    yield _row(asset, "configured", configured, config)


def _row(asset: str, state: str, file: Path, config: Config) -> dict[str, Any]:
    row = {"asset": asset, "state": state, "file": str(file)}
    try:
        return {**row, **_about(read_bundle(file, config.trusted_keys))}
    except BundleError as error:
        return {**row, "problem": str(error)}
    except OSError as error:
        return {**row, "problem": error.strerror or str(error)}


def _about(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name, "serial": manifest.serial, "sha256": bundle.sha256,
        "created": manifest.created, "signed": bundle.signed,
    }  # fmt: skip


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
