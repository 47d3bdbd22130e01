"""A bundle is hostile until verified: every refusal, each in one line that says what to do."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundles.bundle import (
    MANIFEST_NAME,
    MAX_BUNDLE_BYTES,
    MODEL_NAME,
    SIGNATURE_NAME,
    BundleError,
    read_bundle,
)
from edge_agent.bundles.manifest import Manifest
from edge_agent.bundles.signature import is_signed_by, new_key, sign
from tests.programs import COMPASS, VIBRATION

Members = dict[str, bytes]


def members() -> Members:
    """Those of the default vibration bundle."""
    with zipfile.ZipFile(VIBRATION) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def with_manifest(change: Callable[[dict], object]) -> Members:
    """The default bundle with something changed in its manifest."""
    content = members()
    manifest = json.loads(content[MANIFEST_NAME])
    change(manifest)
    content[MANIFEST_NAME] = json.dumps(manifest).encode()
    return content


@pytest.mark.parametrize("path", [VIBRATION, COMPASS])
def test_the_default_bundles_are_accepted(path: Path) -> None:
    bundle = read_bundle(path)
    assert bundle.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not bundle.manifest.threshold.provisional or path == COMPASS
    assert bundle.manifest.measures["size_ratio"] <= 0.30


def damaged_model() -> Members:
    """One bit of the weights flipped."""
    content = members()
    model = bytearray(content[MODEL_NAME])
    model[len(model) // 2] ^= 1
    return {**content, MODEL_NAME: bytes(model)}


def with_member(name: str, content: bytes = b"x") -> Members:
    """A member that this network doesn't need, with a right hash in the manifest."""
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    changed = with_manifest(lambda m: m["files"].update({name: entry}))
    return {**changed, name: content}


REFUSALS: dict[str, tuple[Callable[[], Members], str]] = {
    "model damaged": (damaged_model, "not the file it was: copy it again"),
    "model missing": (lambda: {MANIFEST_NAME: members()[MANIFEST_NAME]}, "lacks model.tflite"),
    "manifest missing": (lambda: {MODEL_NAME: members()[MODEL_NAME]}, "lacks bundle.json"),
    "path escapes": (lambda: {**members(), "../../etc/cron.d/x": b"x"}, "unexpected member"),
    "stranger": (lambda: {**members(), "run.sh": b"x"}, "unexpected member"),
    "manifest too large": (
        lambda: {**members(), MANIFEST_NAME: b" " * ((1 << 20) + 1)}, "over 1048576 bytes"
    ),
    "not json": (lambda: {**members(), MANIFEST_NAME: b"{"}, "bundle.json"),
    "nested too deep": (lambda: {**members(), MANIFEST_NAME: b"[" * 100_000}, "bundle.json"),
    "member of another family": (lambda: with_member("memory.npy"), "files must be model.tflite"),
    "member that is not listed": (
        lambda: {**members(), "memory.npy": b"x"}, "unexpected member ['memory.npy']"
    ),
    "member too large": (
        lambda: {**members(), "memory_scale.npy": bytes(4 * (1 << 18) + 4097)}, "over 1052672"
    ),
    "memory without its size": (
        lambda: with_manifest(lambda m: m["model"].update(family="memory")), "family `memory`"
    ),
    "unknown key": (lambda: with_manifest(lambda m: m.update(colour="red")), "colour"),
    "schema of the future": (lambda: with_manifest(lambda m: m.update(schema_version=2)), "schema"),
    "scale of zero": (
        lambda: with_manifest(lambda m: m["scaler"]["scale"].__setitem__(0, 0)), "scaler.scale.0"
    ),
    "not a number": (
        lambda: with_manifest(lambda m: m["scaler"]["centre"].__setitem__(0, float("nan"))),
        "bundle.json",
    ),
    "sizes disagree": (
        lambda: with_manifest(lambda m: m["scaler"]["scale"].pop()), "model.features"
    ),
    "threshold below zero": (
        lambda: with_manifest(lambda m: m["threshold"].update(value=-1)), "threshold.value"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, words = REFUSALS[case]
    with pytest.raises(BundleError) as refusal:
        read_bundle(write(tmp_path / "x.otolith", make()))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("x.otolith")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = {**members(), MODEL_NAME: bytes(64 << 20)}
    path = write(tmp_path / "bomb.otolith", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="compressed or over"):
        read_bundle(path)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.otolith"
    with path.open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)
    with pytest.raises(BundleError, match="at most"):
        read_bundle(path)


def test_a_lower_serial_is_refused_and_the_same_one_is_not() -> None:
    serial = read_bundle(VIBRATION).manifest.serial
    assert read_bundle(VIBRATION, lowest_serial=serial)
    with pytest.raises(BundleError, match="build with a higher serial"):
        read_bundle(VIBRATION, lowest_serial=serial + 1)


def test_signatures(tmp_path: Path) -> None:
    (private, public), (_, stranger) = new_key(), new_key()
    content = members()
    signed = {**content, SIGNATURE_NAME: sign(private, content[MANIFEST_NAME])}
    path = write(tmp_path / "signed.otolith", signed)
    assert read_bundle(path, keys=(stranger, public)).signed
    with pytest.raises(BundleError, match="signed with another key"):
        read_bundle(path, keys=(stranger,))
    with pytest.raises(BundleError, match="is not signed"):
        read_bundle(VIBRATION, keys=(public,))
    forged = {**with_manifest(lambda m: m.update(serial=99)), SIGNATURE_NAME: signed["signature"]}
    with pytest.raises(BundleError, match="signed with another key"):
        read_bundle(write(tmp_path / "forged.otolith", forged), keys=(public,))


def test_text_that_is_no_key_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="not an Ed25519 key"):
        is_signed_by(("c2hvcnQ=",), b"", b"")


@given(at=st.integers(0, 1 << 20), byte=st.integers(0, 255), cut=st.integers(0, 1 << 20))
def test_any_damage_is_one_error_or_the_same_bundle(
    at: int, byte: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(VIBRATION.read_bytes())
    whole[at % len(whole)] = byte
    path = tmp_path_factory.mktemp("damage") / "x.otolith"
    path.write_bytes(whole[: cut % len(whole)] if cut % 2 else whole)
    good = read_bundle(VIBRATION)
    try:
        read = read_bundle(path)
    except BundleError:
        return
    # What the hashes don't cover is the zip's own bookkeeping; model and manifest are as they were.
    assert read.model == good.model
    assert read.manifest.model == good.manifest.model


def manifest() -> Manifest:
    """That of the default vibration bundle."""
    return read_bundle(VIBRATION).manifest


@pytest.mark.parametrize(
    ("channels", "unit", "rate_hz", "words"),
    [
        (("x", "y", "z"), "g", 3200.0, None),
        (("x", "y", "z"), "g", 3300.0, None),
        (("x", "z", "y"), "g", 3200.0, "was trained on channels x, y, z; the board sends x, z, y"),
        (("x", "y"), "g", 3200.0, "was trained on channels"),
        (("x", "y", "z"), "m/s2", 3200.0, "wants unit g, the board sends m/s2"),
        (("x", "y", "z"), "g", 1600.0, "wants 3200 Hz, the board sends 1600 Hz"),
    ],
)
def test_a_stream_that_does_not_fit_is_refused(
    channels: tuple[str, ...], unit: str, rate_hz: float, words: str | None
) -> None:
    refusal = manifest().refusal(channels, unit, rate_hz)
    if words is None:
        assert refusal is None
    else:
        assert refusal
        assert words in refusal
