"""The release: installs without a network, proves itself first, and changes nothing if it can't."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from edge_agent.bundles.signature import new_key
from tests.conftest import ROOT
from tests.releases import (
    BROKEN,
    PREFIX,
    agent,
    command,
    current,
    dist,
    install,
    linked,
    next_version,
    other,
    rewrite,
    tree,
    unpack,
)

UNIT = Path("etc/systemd/system/edge-agent.service")
CONFIG = Path("etc/otolith/agent.toml")
RELEASE_KEY = Path("etc/otolith/release.pub")
OFFLINE = ("Temporary failure in name resolution", "No matching distribution", "Max retries")
INSTALL_SECONDS = 240


@pytest.fixture(scope="module", autouse=True)
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Releases are made of a copy of the tree, which nobody edits meanwhile."""
    copy = tmp_path_factory.mktemp("sources") / "otolith"
    for name in (*dist.PACKAGES, "systemd"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("build"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "ROOT", copy)
        yield


@pytest.fixture(scope="module")
def archive(sources: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release for this machine and this Python; its wheels come from the index."""
    try:
        return dist.dist(dist.target_of("host"), tmp_path_factory.mktemp("dist"))
    except subprocess.CalledProcessError as error:
        if any(word in error.stderr for word in OFFLINE):
            pytest.skip("the index can't be reached, and the wheels come from there")
        raise AssertionError(error.stderr) from error


@pytest.fixture(scope="module")
def release(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, unpacked; not to be changed."""
    folder = tmp_path_factory.mktemp("unpacked")
    unpack(archive, folder)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def gateway(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which the release is installed; not to be changed."""
    root = tmp_path_factory.mktemp("gateway")
    (root / "opt").mkdir()
    (root / CONFIG).parent.mkdir(parents=True)
    install(release, root)
    return root


@pytest.fixture(scope="module")
def updated(release: Path, gateway: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, after an update; not to be changed."""
    folder = tmp_path_factory.mktemp("updated")
    root = linked(gateway, folder / "root")
    # Of an age before the last two.
    (root / PREFIX / "0.0.9" / "venv").mkdir(parents=True)
    install(next_version(release, folder), root)
    return root


@pytest.fixture
def root(gateway: Path, tmp_path: Path) -> Path:
    """A gateway of this test's own; files are shared until they are replaced."""
    return linked(gateway, tmp_path / "root")


@pytest.fixture
def newer(release: Path, tmp_path: Path) -> Path:
    """The next version, unpacked, of this test's own."""
    return next_version(release, tmp_path)


def test_it_installs_and_what_it_installed_works(root: Path, release: Path) -> None:
    assert current(root) == "0.1.0"
    assert not (root / PREFIX / "previous").exists()
    done = agent(root, "selftest", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
    (start,) = (line for line in (root / UNIT).read_text().splitlines() if "ExecStart=" in line)
    python = start.partition("=")[2].split()[0]
    assert python == "/opt/otolith/current/venv/bin/python"
    assert (root / python[1:]).exists()
    assert os.readlink(root / "usr/local/bin/edge-agent").startswith("/opt/otolith/current/")
    assert (root / "etc/udev/rules.d/99-otolith.rules").exists()
    # Nothing of the tree that it was built in: it is imported from its own folder.
    before = tree(root)
    assert "installed already" in install(release, root)
    assert tree(root) == before


def test_a_new_version_stands_beside_the_old_one_and_there_is_a_way_back(
    updated: Path, tmp_path: Path
) -> None:
    root = linked(updated, tmp_path / "root")
    assert (current(root), os.readlink(root / PREFIX / "previous")) == ("0.2.0", "0.1.0")
    assert sorted(path.name for path in (root / PREFIX).iterdir()) == [
        "0.1.0", "0.2.0", "current", "previous",
    ]  # fmt: skip
    assert agent(root, "rollback").returncode == 0
    assert (current(root), os.readlink(root / PREFIX / "previous")) == ("0.1.0", "0.2.0")
    assert agent(root, "selftest").returncode == 0
    assert agent(root, "rollback").returncode == 0
    assert current(root) == "0.2.0"


def test_there_is_no_way_back_from_the_first_version(gateway: Path) -> None:
    before = tree(gateway)
    done = agent(gateway, "rollback")
    assert done.returncode == 1
    assert "no version before 0.1.0" in done.stderr
    assert tree(gateway) == before
    here = subprocess.run(
        [sys.executable, "-m", "edge_agent", "rollback"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert here.returncode == 1
    assert "not made by install.sh" in here.stderr


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_the_archive_is_said_and_changes_nothing(
    gateway: Path, newer: Path, what: str
) -> None:
    change, said = BROKEN[what]
    change(newer)
    before = tree(gateway)
    assert said in install(newer, gateway, code=1)
    assert tree(gateway) == before


def test_a_first_install_that_fails_leaves_nothing(newer: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "opt").mkdir(parents=True)
    other("needs_kb", "99999999999")(newer)
    install(newer, empty, code=1)
    assert list(tree(empty)) == ["opt"]


def test_a_version_that_computes_something_else_is_not_taken(root: Path, newer: Path) -> None:
    (wheel,) = newer.glob("wheels/otolith-*.whl")
    with zipfile.ZipFile(wheel) as old:
        members = {info: old.read(info) for info in old.infolist()}
    wheel.unlink()
    with zipfile.ZipFile(wheel, "w") as new:
        for info, content in members.items():
            if info.filename.endswith("golden.json"):
                golden = json.loads(content)
                golden["compass"]["scores"][7] *= 1.1
                content = json.dumps(golden).encode()
            new.writestr(info, content)
    dist.seal(newer)
    before = tree(root)
    told = install(newer, root, code=1)
    assert "WRONG compass scores" in told
    assert "0.2.0 fails its self-test" in told
    assert tree(root) == before


def test_a_configuration_that_the_new_version_refuses_stops_it(
    updated: Path, newer: Path, tmp_path: Path
) -> None:
    root = linked(updated, tmp_path / "root")
    assert agent(root, "rollback").returncode == 0
    (root / CONFIG).write_text('[gateway]\nid = "hall"\ncolour = "red"\n')
    before = tree(root)
    told = install(newer, root, code=1)
    assert "colour" in told
    assert "0.2.0 refuses /etc/otolith/agent.toml" in told
    # Nor is there a way back, or forth, to a version that refuses it.
    assert agent(root, "rollback").returncode == 1
    assert tree(root) == before


def test_no_power_in_the_middle_is_no_harm(root: Path, newer: Path) -> None:
    before = tree(root)
    with subprocess.Popen(
        command(newer, root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:  # fmt: skip
        deadline = time.monotonic() + INSTALL_SECONDS
        while not list((root / PREFIX).glob("0.2.0/venv/lib/*/site-packages/numpy")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = subprocess.run(command(newer, root), capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "another install.sh is at work" in second.stderr
        os.killpg(child.pid, signal.SIGKILL)
    assert current(root) == "0.1.0"
    assert agent(root, "selftest").returncode == 0
    # The half-made folder is not taken for a whole one, and what was left lying about is gone.
    install(newer, root)
    assert current(root) == "0.2.0"
    assert agent(root, "selftest").returncode == 0
    assert not list((root / PREFIX).glob(".*"))
    left = set(before) - set(tree(root))
    assert left == set()


@pytest.mark.parametrize("lost", ["current", "previous"])
def test_between_two_links_the_way_back_is_not_lost(
    updated: Path, tmp_path: Path, lost: str
) -> None:
    """Where the power goes between them, both lead to one version."""
    root = linked(updated, tmp_path / "root")
    here, there = ("0.2.0", "0.1.0") if lost == "previous" else ("0.1.0", "0.2.0")
    for name in ("current", "previous"):
        (root / PREFIX / name).unlink()
        (root / PREFIX / name).symlink_to(here)
    assert agent(root, "rollback").returncode == 0
    assert (current(root), os.readlink(root / PREFIX / "previous")) == (there, here)


def test_what_was_half_deleted_is_not_taken_for_a_version(root: Path, newer: Path) -> None:
    """A failed update is removed; where the power goes within that, its sums have gone first."""
    other("pythons", "2.7")(newer)
    shutil.copytree(root / PREFIX / "0.1.0", root / PREFIX / "0.0.9", symlinks=True)
    shim = root / "bin" / "rm"
    shim.parent.mkdir()
    shim.write_text(
        '#!/bin/sh\ncase "$*" in *-rf*0.0.9*) /bin/rm -rf "$2/venv/lib"; kill -9 $PPID; exit ;; '
        'esac\nexec /bin/rm "$@"\n'
    )
    shim.chmod(0o755)
    older = linked(newer, newer.parent / "older")
    for key, value in (("version", "0.0.9"), ("pythons", "{}.{}".format(*sys.version_info))):
        other(key, value)(older)
    rewrite(root / PREFIX / "0.0.9" / "SHA256SUMS", (older / "SHA256SUMS").read_bytes())
    third = linked(older, newer.parent / "third")
    other("version", "0.3.0")(third)
    done = subprocess.run(
        command(third, root), capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (root / PREFIX / "0.0.9" / "venv").exists()
    assert "0.0.9: making" in install(older, root)
    assert agent(root, "selftest").returncode == 0


def test_it_goes_as_it_came_and_leaves_what_is_the_sites_own(root: Path, tmp_path: Path) -> None:
    drop_in, state = root / f"{UNIT}.d" / "site.conf", root / "var/lib/edge-agent/outbox.sqlite"
    for file in (drop_in, root / CONFIG, state):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    told = install(root / PREFIX / "current", root, "uninstall")
    assert "are the site's own and stay" in told
    left = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    assert left == {str(file.relative_to(root)) for file in (drop_in, root / CONFIG, state)}
    assert not (root / PREFIX).exists()
    script = str(ROOT / "systemd" / "install.sh")
    again = subprocess.run(
        ["sh", script, "--root", str(root), "uninstall"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "nothing is installed" in again.stderr


def test_an_archive_brings_no_rights_of_its_own(root: Path, tmp_path: Path) -> None:
    """It is unpacked before it is checked: a program of root that everybody may run, in a folder
    that everybody may enter, would be there for a moment."""
    evil = tmp_path / "evil"
    (evil / "otolith").mkdir(parents=True)
    (evil / "otolith" / "install.sh").write_text("exit 0\n")
    (evil / "otolith" / "su").write_text("evil")
    (evil / "otolith" / "su").chmod(0o6777)
    evil.chmod(0o777)
    subprocess.run(["tar", "-czf", "evil.tar.gz", "-C", str(evil), "."], cwd=tmp_path, check=True)
    seen = tmp_path / "seen"
    shim = tmp_path / "bin" / "tar"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\n/bin/tar "$@"; code=$?\nwhile [ "$1" != -C ]; do shift; done\n'
        f"stat -c %a $2 $2/otolith/su >{seen}\nexit $code\n"
    )
    shim.chmod(0o755)
    told = install(
        root / PREFIX / "current", root, str(tmp_path / "evil.tar.gz"), code=1,
        path=f"{shim.parent}:",
    )  # fmt: skip
    assert "has no SHA256SUMS" in told
    folder, program = (int(mode, 8) for mode in seen.read_text().split())
    assert (folder & 0o077, program & 0o6022) == (0, 0)


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """A gateway whose disk has room for a third of a version."""
    source = tree(root)
    card = root / "opt2"
    card.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "none", str(card)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    assert source
    yield root
    subprocess.run(["umount", str(card)], check=True)


def test_a_disk_that_fills_up_half_way_is_no_harm(small_disk: Path, newer: Path) -> None:
    other("needs_kb", "1000")(newer)
    before = tree(small_disk)
    told = install(newer, small_disk, "--prefix", "/opt2/otolith", code=1)
    assert "No space left" in told
    assert tree(small_disk) == before


def test_a_release_key_asks_for_a_signature(
    root: Path, release: Path, newer: Path, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    private, public = new_key()
    (root / RELEASE_KEY).write_text(public + "\n")
    before = tree(root)
    assert "not signed" in install(newer, root, code=1)
    dist.seal(newer, new_key()[0])
    assert "the signature is not by" in install(newer, root, code=1)
    # Anybody can make sums: nothing of the archive runs before the installed version has looked.
    rewrite(newer / "install.sh", f"touch {tmp_path / 'ran'}\n")
    dist.seal(newer)
    false = dist.packed(newer, tmp_path / "false.tar.gz", 0)
    installed = root / PREFIX / "current"
    assert "not signed" in install(installed, root, str(false), code=1)
    assert tree(root) == before
    assert not (tmp_path / "ran").exists()
    dist.seal(newer, private)
    true = dist.packed(newer, tmp_path / "true.tar.gz", 0)
    install(installed, root, str(true))
    assert (tmp_path / "ran").exists()


def test_an_archive_installs_itself_through_the_version_before(
    root: Path, archive: Path, tmp_path: Path
) -> None:
    before = tree(root)
    assert "installed already" in install(root / PREFIX / "current", root, str(archive))
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:100_000])
    told = install(root / PREFIX / "current", root, str(tmp_path / "cut.tar.gz"), code=1)
    assert "damaged" in told
    assert tree(root) == before


@pytest.mark.parametrize(("number", "there"), [(252, False), (257, True)])
def test_the_drop_in_comes_where_systemd_understands_it(
    root: Path, release: Path, tmp_path: Path, number: int, there: bool
) -> None:
    shim = tmp_path / "bin" / "systemctl"
    shim.parent.mkdir()
    shim.write_text(f"#!/bin/sh\necho 'systemd {number} ({number}.1-1)'\n")
    shim.chmod(0o755)
    install(release, root, path=f"{shim.parent}:")
    assert (root / f"{UNIT}.d" / "10-trixie.conf").exists() == there


def test_a_unit_that_was_changed_by_hand_is_kept(root: Path, release: Path) -> None:
    mine = (root / UNIT).read_text() + "# mine\n"
    rewrite(root / UNIT, mine)
    assert "changed by hand" in install(release, root)
    assert "# mine" not in (root / UNIT).read_text()
    assert Path(f"{root / UNIT}.site").read_text() == mine


def test_the_same_sources_and_wheels_are_the_same_bytes(
    archive: Path, release: Path, tmp_path: Path
) -> None:
    document = json.loads((release / "sbom.cdx.json").read_text())
    epoch = int(datetime.fromisoformat(document["metadata"]["timestamp"]).timestamp())
    (shipped,) = release.glob("wheels/otolith-*.whl")
    assert dist.own_wheel(tmp_path, epoch).read_bytes() == shipped.read_bytes()
    assert dist.packed(release, tmp_path / "again", epoch).read_bytes() == archive.read_bytes()


def test_the_bill_of_materials_is_valid_and_whole(release: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (release / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    parts = [document["metadata"]["component"], *document["components"]]
    assert parts[0]["name"] == "otolith"
    found = {part["bom-ref"]: part["hashes"][0]["content"] for part in parts}
    sums = (line.split("  ") for line in (release / "SHA256SUMS").read_text().splitlines())
    assert found == {
        name.removeprefix("wheels/"): digest for digest, name in sums if name.startswith("wheels/")
    }
    assert all(part["licenses"] != [{"license": {"name": "not stated"}}] for part in parts)


def test_the_script_has_no_trap_that_shellcheck_knows() -> None:
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("shellcheck", path=here)
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [program, "--shell=sh", str(ROOT / "systemd" / "install.sh")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_usage_is_said() -> None:
    done = subprocess.run(
        ["sh", str(ROOT / "systemd" / "install.sh"), "--colour"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--prefix DIR" in done.stderr
