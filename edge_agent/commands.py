"""Commands: what `edge-agent` does, one function a command.

In: parsed options. Out: an exit code, JSON lines on standard output if asked, people's words on
standard error. Never: catches what `__main__` turns into an exit code, imports what only one
command needs (`run` must stay small).
"""

from __future__ import annotations

import faulthandler
import gc
import json
import signal
import sys
import threading
from argparse import Namespace
from typing import Any

from edge_agent.config import (
    BoardSettings,
    Config,
    ConfigError,
    Loaded,
    file_notes,
    load_config,
    read_config,
)

EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_IO, EXIT_CONFIG = 0, 1, 2, 74, 78


def run(options: Namespace) -> int:
    """`edge-agent run --config F`: the service."""
    from edge_agent.config.last_good import ConfigFile
    from edge_agent.service import Service

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Whoever ends us because we hang finds in the journal where every thread was.
    faulthandler.enable()
    file = ConfigFile(options.config, options.last_good)
    service = Service(file.first(), file=file)
    signal.signal(signal.SIGHUP, lambda *_: service.reload_asked.set())
    # What was made at the start stays: the collector needn't walk through it again and again.
    gc.collect()
    gc.freeze()
    return service.run(stop)


def check_config(options: Namespace) -> int:
    """`edge-agent check-config F`: every error at once; no network, no ports."""
    file = options.config or options.file
    try:
        loaded = read_config(file)
    except ConfigError as error:
        return _refused(error, options.json)
    config = loaded.config
    notes = [*file_notes(config), *_bundle_notes(config)]
    for note in notes:
        tell(f"note: {note}")
    shown = _show(loaded, options.json) if options.show else 0
    if options.json:
        say(ok=True, problems=0, notes=notes, **({"keys": shown} if options.show else {}))
    else:
        # What is shown is TOML, and stays it.
        answer = tell if options.show else line
        answer(f"{file}: ok, {len(config.boards)} boards, {len(config.assets)} assets")
    return EXIT_OK


def record(options: Namespace) -> int:
    """`edge-agent record`: the wire of one board to a file."""
    from edge_agent.boards.capture import capture

    settings = _board_settings(options)
    with options.out.open("xb") as file:
        captured = capture(settings, options.seconds, file, _progress)
    if options.json:
        say(out=str(options.out), **captured._asdict())
    else:
        what = ", ".join(f"{n} samples of {name}" for name, n in captured.samples.items())
        line(f"{options.out}: {captured.bytes} bytes, {what}, {captured.samples_lost} lost")
    return EXIT_OK if any(captured.samples.values()) else EXIT_NO


def replay(options: Namespace) -> int:
    """`edge-agent replay REC --bundle B`: a recording through the pipeline."""
    from edge_agent.bundles.bundle import read_bundle
    from edge_agent.judging.pipeline import Judgement
    from edge_agent.replay import Replay

    bundle, calibration = read_bundle(options.bundle), None
    if options.calibration is not None:
        from edge_agent.calibrate.shelf.shelf import read_file

        calibration = read_file(options.calibration)
    replayed = Replay(options.recording, bundle, options.stream, calibration)
    windows, told = 0, []
    for fact in replayed.facts(options.speed):
        if isinstance(fact, Judgement):
            if options.scores and options.json:
                say(kind="score", index=windows, t=fact.score.t, ratio=fact.ratio,
                    score=fact.score.value)  # fmt: skip
            windows += 1
        elif options.json:
            say(**_flat(fact))
        else:
            told.append(_flat(fact))
    summary = replayed.summary()._asdict()
    if options.json:
        say(**summary)
        return EXIT_OK
    from edge_agent.pages import replay_page

    replay_page(options.recording, told, summary)
    return EXIT_OK


def inspect(options: Namespace) -> int:
    """`edge-agent inspect BUNDLE`: what a bundle is."""
    from edge_agent.bundles.bundle import read_bundle

    bundle = read_bundle(options.bundle, tuple(options.key))
    if options.json:
        say(
            bundle=str(options.bundle), sha256=bundle.sha256, signed=bundle.signed,
            verified=bool(options.key), manifest=bundle.manifest.model_dump(mode="json"),
        )  # fmt: skip
        return EXIT_OK
    from edge_agent.pages import bundle_page

    bundle_page(options.bundle, bundle, bool(options.key))
    return EXIT_OK


def bundle(options: Namespace) -> int:
    """`edge-agent bundle install | list | rollback`: which bundle judges an asset."""
    from edge_agent.bundles.command import bundle_command

    return bundle_command(options)


def calibrate_compass(options: Namespace) -> int:
    """`edge-agent calibrate compass`: hard and soft iron, and the error to expect."""
    from edge_agent.calibrate.compass.command import compass

    return compass(options)


def calibrate_accel(options: Namespace) -> int:
    """`edge-agent calibrate accel`: scale, cross axes and bias, from twelve poses."""
    from edge_agent.calibrate.accel.command import accel

    return accel(options)


def calibrate_list(options: Namespace) -> int:
    """`edge-agent calibrate list`: what is on the shelf, and in use."""
    from edge_agent.calibrate.shelf.command import list_calibrations

    return list_calibrations(options)


def calibrate_show(options: Namespace) -> int:
    """`edge-agent calibrate show`: everything that one of them says."""
    from edge_agent.calibrate.shelf.command import show_calibration

    return show_calibration(options)


def calibrate_rollback(options: Namespace) -> int:
    """`edge-agent calibrate rollback`: the one before is in use again, or the one that is named."""
    from edge_agent.calibrate.shelf.command import rollback

    return rollback(options)


def doctor(options: Namespace) -> int:
    """`edge-agent doctor`: what is wrong with ports, boards, broker and machine."""
    from edge_agent.checkup.command import doctor

    return doctor(options)


def selftest(options: Namespace) -> int:
    """`edge-agent selftest`: whether this version computes here what it computed at home."""
    from edge_agent.selftest import selftest

    return selftest(options)


def rollback(_: Namespace) -> int:
    """`edge-agent rollback`: the version before this one, in one step."""
    from edge_agent.installed import rollback

    return rollback()


def status(options: Namespace) -> int:
    """`edge-agent status --config F`: how the service that runs is doing."""
    from edge_agent.door import ask
    from edge_agent.health.status import of_answer

    found = of_answer(ask(load_config(options.config).storage.state_dir, {"do": "status"}))
    if options.json:
        say(ok=not found.wrong, **found.model_dump(mode="json"))
    else:
        from edge_agent.health.status_page import print_page

        print_page(found)
    return EXIT_NO if found.wrong else EXIT_OK


def demo(options: Namespace) -> int:
    """`edge-agent demo`: everything at once, simulated, on this machine."""
    from edge_agent import demo as stage

    return stage.run(options.json)


def schema(options: Namespace) -> int:
    """`edge-agent schema [NAME] [--out DIR]`: the contract with subscribers."""
    from edge_agent.broker.contract import channels, documents

    found = documents()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (options.out / name).write_text(text)
        tell(f"{options.out}: {len(found)} files")
    elif options.name is None:
        for channel in channels():
            line(f"{channel.name:20} {channel.topic:28} {channel.what}")
        line(f"{'asyncapi':20} {'':28} all of it as one AsyncAPI 3 document")
    elif (name := f"{options.name.removesuffix('.json')}.json") in found:
        line(found[name].rstrip())
    else:
        known = ", ".join(sorted(each.removesuffix(".json") for each in found))
        tell(f"edge-agent: saw {options.name!r}; there are {known}")
        return EXIT_NO
    return EXIT_OK


def say(**fields: Any) -> None:
    """One JSON object on standard output."""
    line(json.dumps(fields))


def line(text: str) -> None:
    """A line of the answer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """A line for people beside the answer."""
    sys.stderr.write(text + "\n")


def _refused(error: ConfigError, as_json: bool) -> int:
    if as_json:
        for problem in error.problems:
            say(
                file=str(error.file), line=problem.line, variable=problem.variable or None,
                key=".".join(problem.path), problem=problem.text,
            )  # fmt: skip
    else:
        tell(str(error))
    tell(f"{len(error.problems)} problem(s)")
    if as_json:
        say(ok=False, problems=len(error.problems))
    return EXIT_CONFIG


def _show(loaded: Loaded, as_json: bool) -> int:
    """The effective configuration; gives how many keys there are."""
    from edge_agent.config.effective import rows, toml_lines

    found = rows(loaded)
    for row in found if as_json else ():
        say(
            key=".".join(row.path), value=row.value, source=row.origin.text,
            line=row.origin.line, variable=row.origin.variable or None,
        )  # fmt: skip
    for text in () if as_json else toml_lines(found):
        line(text)
    return len(found)


def _bundle_notes(config: Config) -> list[str]:
    """Bundles that would be refused at the start, as far as files can tell."""
    from edge_agent.assets import site_of
    from edge_agent.bundles.bundle import BundleError
    from edge_agent.bundles.shelf import installed_note, judging_bundle
    from edge_agent.judging.pipeline import Pipeline

    notes = []
    for name, asset in config.assets.items():
        try:
            manifest = judging_bundle(config, name).manifest
            if note := installed_note(config, name, manifest):
                notes.append(f"assets.{name}.bundle: {note}")
            Pipeline(name, manifest, lambda scaled: scaled, site_of(asset, manifest))
        except (BundleError, ValueError) as error:
            notes.append(f"assets.{name}.bundle: {error}")
        except OSError as error:
            file = error.filename or asset.bundle
            notes.append(f"assets.{name}.bundle: {file}: {error.strerror or error}")
    return notes


def _board_settings(options: Namespace) -> BoardSettings:
    if options.port:
        return BoardSettings(port=options.port, baud=options.baud)
    config = load_config(options.config)
    board = options.board or next(iter(config.boards))
    if board not in config.boards:
        raise ValueError(f"no board {board!r}; {options.config} has: {', '.join(config.boards)}")
    return config.boards[board]


def _progress(seconds_left: float, written_bytes: int) -> None:
    """A word on the terminal, none in a file."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{seconds_left:6.0f} s to go, {written_bytes / 1e6:.2f} MB ")


def _flat(fact: Any) -> dict[str, Any]:
    """A gap, a drift notice or an alarm event as one flat object."""
    from edge_agent.judging.drift import Drift
    from edge_agent.judging.pipeline import AlarmEvent

    if isinstance(fact, Drift):
        return {"kind": "drift", "t": fact.t, "moved": fact.moved, "psi": fact.psi,
                "why": fact.sentence}  # fmt: skip
    if not isinstance(fact, AlarmEvent):
        return {"kind": "gap", "t": fact.t, "samples_lost": fact.lost, "why": fact.reason}
    change, why = fact.change, fact.why
    return {
        "kind": change.kind, "episode": change.number, "t": change.t,
        "first_over_t": change.first_over_t, "ratio": change.ratio,
        "peak_ratio": change.peak_ratio, "severity": change.severity, "score": fact.score,
        "threshold": fact.threshold, "top1_ch": why.channels[0].name,
        "top1_share": why.channels[0].share, "feature": why.feature,
        "direction": why.direction, "why": why.sentence,
    }  # fmt: skip
