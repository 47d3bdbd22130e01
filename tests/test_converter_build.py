"""`edge-converter build`, end to end on simulated machines, the way a model maker runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.build import Built, build
from converter.build_settings import BuildSettings, Roles
from converter.bundle import bundle_bytes, next_serial, write_bundle
from converter.dataset import Shares
from converter.default_bundle import simulated
from converter.errors import ConverterError
from converter.fidelity import Comparison, Limits, compare
from converter.labels import labels_document, labels_path
from converter.models.training import TrainSettings
from converter.transfer import read_weights
from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import BundleError, read_bundle
from edge_agent.bundles.frozen import Frozen
from edge_agent.bundles.manifest import Manifest, SmoothFrontEnd, SpectralFrontEnd, WindowSpec
from edge_agent.judging.pipeline import Judgement
from firmware_bridge.sampler import sampled
from firmware_bridge.signals import Fault
from firmware_bridge.simulator import machine_sources
from tests.conftest import ROOT
from tests.programs import replay, run

FAULT = Fault("bearing", 6.0, None, 1.0, "y")

DENSE = BuildSettings(
    name="motor",
    family="dense",
    front_end=SpectralFrontEnd(),
    window=WindowSpec(length=2304, hop=800),
    train_hop=200,
    train=TrainSettings(epochs=8, batch_size=64),
    created="2026-01-01T00:00:00+00:00",
)
LSTM = BuildSettings(
    name="mast",
    family="lstm",
    front_end=SmoothFrontEnd(decimate=10),
    window=WindowSpec(length=20, hop=5),
    train_hop=2,
    units=(16, 8),
    train=TrainSettings(epochs=4),
    # A small network keeps its fixed 10 kB: the size is not what this one is for.
    limits=Limits(size_ratio=1.0),
)


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles([simulated("vibration", 41, 60.0)], [], [simulated("vibration", 41, 12.0, FAULT)])


@pytest.fixture(scope="module")
def built(roles: Roles) -> Built:
    return build(DENSE, roles)


def manifest_of(built: Built) -> Manifest:
    assert built.manifest is not None
    return built.manifest


def test_int8_keeps_what_float_knows_and_finds_the_fault(built: Built) -> None:
    comparison = built.comparison
    assert comparison.accepted, comparison.reasons
    assert comparison.int8 is not None
    assert comparison.float32.auc is not None
    assert comparison.float32.auc > 0.99
    assert comparison.int8.detected_share is not None
    assert comparison.int8.detected_share > 0.95
    assert comparison.size_ratio is not None
    assert comparison.size_ratio < 0.30
    assert comparison.linear.auc is not None
    assert comparison.linear.threshold.value != comparison.int8.threshold.value


def test_the_manifest_tells_where_it_comes_from(built: Built, roles: Roles) -> None:
    manifest = manifest_of(built)
    provenance = manifest.provenance
    assert provenance.recordings == {r.name: r.sha256 for r in roles.all()}
    assert len(provenance.representative) == DENSE.representative
    fit_rows = 0.6 * roles.normal[0].rows
    assert all(w.first_row + 2304 <= fit_rows for w in provenance.representative)
    assert manifest.threshold.windows == built.windows["held_out"]
    assert manifest.threshold.provisional
    # What is good enough does not learn to be rounded.
    assert not built.learned.tried
    assert provenance.settings["learned_rounding"] is False
    assert set(manifest.measures) >= {"float", "int8", "linear", "spearman"}
    assert "latency" not in json.dumps(manifest.measures)


def test_the_gateway_scores_what_the_converter_scored(
    built: Built, roles: Roles, tmp_path: Path
) -> None:
    assert built.comparison.int8 is not None
    path = tmp_path / "motor.otolith"
    pipeline = build_pipeline("motor", write_bundle(path, manifest_of(built), built.files))
    facts = [fact for samples in roles.evaluate[0].batches for fact in pipeline.feed(samples)]
    scores = [fact.score.value for fact in facts if isinstance(fact, Judgement)]
    np.testing.assert_array_equal(scores, built.comparison.int8.evaluate)


def test_the_same_build_gives_the_same_bytes(built: Built, roles: Roles) -> None:
    again = build(DENSE, roles)
    first = bundle_bytes(manifest_of(built), built.files)
    assert first == bundle_bytes(manifest_of(again), again.files)


def test_the_archive_is_stored_dated_and_in_order(built: Built, tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.otolith", manifest_of(built), built.files)
    with zipfile.ZipFile(tmp_path / "a.otolith") as archive:
        infos = archive.infolist()
    assert [i.filename for i in infos] == ["bundle.json", "model.tflite"]
    assert {(i.date_time, i.compress_type) for i in infos} == {((1980, 1, 1, 0, 0, 0), 0)}


def test_the_serial_grows_with_the_file(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "a.otolith"
    assert next_serial(path) == 1
    write_bundle(path, manifest_of(built).model_copy(update={"serial": 41}), built.files)
    assert next_serial(path) == 42
    path.write_bytes(b"broken")
    with pytest.raises(ConverterError, match="--serial"):
        next_serial(path)


def test_every_limit_refuses(built: Built) -> None:
    one = built.comparison
    assert one.int8 is not None

    def judged(limits: Limits, **worse: Any) -> Comparison:
        assert one.int8 is not None
        return compare(one.float32, one.int8._replace(**worse), one.linear, limits)

    assert judged(Limits()).accepted
    shuffled = np.random.default_rng(1).permutation(one.int8.evaluate)
    cases = {
        "AUC falls": judged(Limits(), auc=(one.float32.auc or 0) - 0.02),
        "Spearman": judged(Limits(agreement=0.0), evaluate=shuffled),
        "alarms": judged(Limits(spearman=-1.0), evaluate=one.int8.evaluate * 0.0),
        "of the float file": judged(Limits(size_ratio=0.2)),
    }
    for text, comparison in cases.items():
        assert not comparison.accepted
        assert len(comparison.reasons) == 1, comparison.reasons
        assert text in comparison.reasons[0]


def test_an_lstm_on_slow_channels() -> None:
    roles = Roles([simulated("compass", 5, 240.0)], [], [])
    built = build(LSTM, roles)
    assert built.comparison.accepted, built.comparison.reasons
    manifest = manifest_of(built)
    assert (manifest.model.steps, manifest.model.features) == (20, 3)
    assert len(manifest.normal_error.by_step) == 20
    assert built.comparison.float32.auc is None


def test_a_relu_lstm_is_trained_and_int8_refused_with_the_reason() -> None:
    roles = Roles([simulated("compass", 5, 120.0)], [], [])
    settings = replace(LSTM, activation="relu", train=TrainSettings(epochs=1))
    built = build(settings, roles)
    assert built.manifest is None
    assert built.comparison.int8 is None
    assert built.comparison.float32.bytes > 0
    (reason,) = built.comparison.reasons
    assert "only a tanh LSTM" in reason


def test_held_out_recordings_take_the_place_of_the_last_block(roles: Roles) -> None:
    other = simulated("vibration", 43, 20.0)
    settings = replace(DENSE, shares=Shares(0.8, 0.2), train=TrainSettings(epochs=1),
                       limits=Limits(1.0, -1.0, 0.0, 1.0))  # fmt: skip
    built = build(settings, Roles(roles.normal, [other], []))
    assert built.windows["held_out"] == 1 + (other.rows - 2304) // 800


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy recording and a labelled faulty one on disk."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds, faults in (("well", 60.0, []), ("faulty", 12.0, [FAULT])):
        document, sources = machine_sources(["vibration"], 41, faults=faults)
        (folder / f"{name}.rec").write_bytes(b"".join(sampled(document, sources, seconds)))
    labels = simulated("vibration", 41, 12.0, FAULT).anomalous
    assert labels is not None
    labels_path(folder / "faulty.rec").write_bytes(labels_document(labels))
    return folder


def test_the_command_line(files: Path, tmp_path: Path) -> None:
    run("converter", "keygen", "--out", tmp_path)
    out = tmp_path / "motor.otolith"
    *_, verdict = run(
        "converter", "build", "--normal", files / "well.rec", "--evaluate", files / "faulty.rec",
        "--name", "motor", "--front-end", "spectral", "--hop", 800, "--train-hop", 200,
        "--epochs", 8, "--batch-size", 64, "--sign", tmp_path / "signing.key", "--out", out,
        "--threshold", "pot", "--adaptive", "conformal", "--absolute", 1e6, "--loss", "mse:2",
        "--layers", "--json",
    )  # fmt: skip
    wanted = {"bundle", "float", "int8", "linear", "size_ratio", "auc_delta", "spearman",
              "alarm_agreement", "accepted", "reasons"}  # fmt: skip
    assert wanted <= set(verdict)
    assert (verdict["accepted"], verdict["bundle"], verdict["reasons"]) == (True, str(out), [])
    assert verdict["int8"]["latency_us"] > 0
    assert {layer["operation"] for layer in verdict["layers"]} >= {"FULLY_CONNECTED"}
    manifest = read_bundle(out).manifest
    assert (manifest.threshold.method, manifest.threshold.absolute) == ("pot", 1e6)
    assert manifest.threshold.adaptation is not None
    assert manifest.threshold.adaptation.method == "conformal"
    assert manifest.provenance.settings["train"]["losses"] == {"mse": 2.0}
    weights = read_weights(Path(verdict["weights"]))
    assert weights.scaler == manifest.scaler
    key = (tmp_path / "signing.pub").read_text().strip()
    assert read_bundle(out, (key,)).signed
    with pytest.raises(BundleError, match="another key"):
        read_bundle(out, ("A" * 43 + "=",))
    *_, summary = replay(files / "faulty.rec", out)
    assert summary["episodes"] == 1


def fails(code: int, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "converter", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_can_not_be_built_says_so(files: Path, tmp_path: Path) -> None:
    common = ["build", "--name", "x", "--out", tmp_path / "x.otolith", "--normal"]
    well = files / "well.rec"
    assert "can't read" in fails(74, *common, tmp_path / "none.rec")
    (tmp_path / "junk.rec").write_bytes(b"\x00" * 500)
    assert "no IDENTIFY" in fails(1, *common, tmp_path / "junk.rec")
    assert "no stream" in fails(2, *common, well, "--stream", "mag")
    assert "--family dense" in fails(
        2, *common, well, "--family", "lstm", "--front-end", "spectral"
    )
    assert "two sizes" in fails(2, *common, well, "--family", "lstm", "--units", "8")
    assert "record longer" in fails(2, *common, well, "--length", 180000)
    assert "high_hz" in fails(2, *common, well, "--front-end", "spectral", "--high-hz", 9000)
    assert "the channels are: x, y, z" in fails(2, *common, well, "--speed-channel", "rpm")
    assert "at most 32" in fails(2, *common, well, "--speed-bins", 99)
    assert "use --front-end spectral" in fails(2, *common, well, "--shaft-hz", 30)
    assert "held out" in fails(2, *common, well, "--fit-share", 0.9)
    assert "given twice" in fails(2, *common, well, "--evaluate", well)
    assert "use --loss mse" in fails(
        2, *common, well, "--front-end", "spectral", "--loss", "spectral:0.1"
    )
    assert "is none of mse" in fails(2, *common, well, "--loss", "mae")
    assert "--from-float" in fails(2, *common, well, "--freeze", "all-but-last")
    assert "no float weights" in fails(1, *common, well, "--from-float", tmp_path / "junk.rec")
    assert "for these segments" in fails(
        2, *common, well, "--front-end", "spectral", "--length", "auto"
    )
    assert not (tmp_path / "x.otolith").exists()


def test_a_refused_bundle_is_not_written(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.otolith"
    (verdict,) = run(
        "converter", "build", "--normal", files / "well.rec", "--name", "x", "--epochs", 1,
        "--front-end", "spectral", "--units", "16,4,16", "--out", out, "--json", code=1,
    )  # fmt: skip
    assert verdict["accepted"] is False
    assert verdict["bundle"] is None
    assert any("of the float file" in reason for reason in verdict["reasons"])
    assert not out.exists()


def test_a_private_key_is_never_overwritten(tmp_path: Path) -> None:
    run("converter", "keygen", "--out", tmp_path)
    key = (tmp_path / "signing.key").read_bytes()
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert "exists" in fails(1, "keygen", "--out", tmp_path)
    assert (tmp_path / "signing.key").read_bytes() == key


def test_every_field_of_a_manifest_is_in_the_document() -> None:
    document = (ROOT / "converter" / "BUNDLE.md").read_text()
    missing = [name for name in _fields(Manifest) if f"`{name}`" not in document]
    assert missing == []


def _fields(model: type[Frozen], prefix: str = "") -> list[str]:
    """Dotted names; a union (the front ends) gives the fields of each member."""
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        for part in _parts(field.annotation):
            # What a list holds is told in the list's own row.
            if name not in ("sketch", "representative"):
                member = "files.model.tflite" if name == "files" else prefix + name
                names += _fields(part, f"{member}.")
    return names


def _parts(annotation: Any) -> list[type[Frozen]]:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [part for argument in inner for part in _parts(argument)]
