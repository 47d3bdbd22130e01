"""What a reload changes in a running service, and what it says about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import Config, load_config
from edge_agent.reload import Change, applied, changes, sentence

FILE = """\
[gateway]
id = "hall-1"

[mqtt]
host = "localhost"
score_interval_seconds = 1.0

[boards.press]
port = "press.tty"

[assets.pump]
board = "press"
stream = "accel"
bundle = "pump.otolith"

[assets.pump.alarm]
on_delay_windows = 4
"""
FAN = '[assets.fan]\nboard = "press"\nstream = "gyro"\nbundle = "fan.otolith"\n'


def load(folder: Path, *edits: tuple[str, str], more: str = "") -> Config:
    text = FILE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    file = folder / "agent.toml"
    file.write_text(text + more)
    return load_config(file, {})


ON_DELAY = ("on_delay_windows = 4", "on_delay_windows = 6\noff_delay_windows = 3")
HOST = ('host = "localhost"', 'host = "::1"')


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    old, new = load(tmp_path), load(tmp_path, ("[mqtt]", "[mqtt]\nport = 1883 # the default"))
    assert changes(old, new) == ()
    assert sentence(()) == "reloaded: nothing has changed"
    assert applied(old, new) == old


def test_what_is_live_is_applied_and_the_rest_needs_a_restart(tmp_path: Path) -> None:
    old, new = load(tmp_path), load(tmp_path, ON_DELAY, HOST)
    changed = changes(old, new)
    assert changed == (
        Change(("mqtt", "host"), "localhost", "::1", live=False),
        Change(("assets", "pump", "alarm", "on_delay_windows"), 4, 6, live=True),
        Change(("assets", "pump", "alarm", "off_delay_windows"), None, 3, live=True),
    )
    assert sentence(changed) == (
        "reloaded: assets.pump.alarm.on_delay_windows 4 -> 6, "
        "assets.pump.alarm.off_delay_windows unset -> 3; needs a restart: mqtt.host"
    )
    running = applied(old, new)
    assert running.assets["pump"].alarm == new.assets["pump"].alarm
    assert running.mqtt == old.mqtt
    # Said again by the next reload, until there was a restart.
    assert sentence(changes(running, new)) == "reloaded: nothing; needs a restart: mqtt.host"


@pytest.mark.parametrize(
    ("more", "key", "live"),
    [
        ("[health]\ninterval_seconds = 5", "health.interval_seconds", True),
        ("[storage]\noutbox_limit_bytes = 70000", "storage.outbox_limit_bytes", True),
        ("[storage]\noutbox_limit_rows = 1000", "storage.outbox_limit_rows", True),
        ('[storage]\nstate_dir = "/s"', "storage.state_dir", False),
        ("[[assets.pump.limits]]\nabove = 3.0", "assets.pump.limits", False),
        ('[recorder]\ndirectory = "r"', "recorder", False),
        ('[boards.other]\nport = "o"', "boards.other", False),
        (FAN, "assets.fan", False),
    ],
)
def test_which_keys_are_live(tmp_path: Path, more: str, key: str, live: bool) -> None:
    old, new = load(tmp_path), load(tmp_path, more=more)
    (change,) = changes(old, new)
    assert (change.key, change.live) == (key, live)
    assert (applied(old, new) == new) is live
    assert (applied(old, new) == old) is not live


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "hall-1"', 'id = "hall-2"'),
        ('port = "press.tty"', 'port = "other.tty"'),
        ('bundle = "pump.otolith"', 'bundle = "pump2.otolith"'),
        ('stream = "accel"', 'stream = "gyro"'),
        ("[gateway]", 'trusted_keys = ["' + "A" * 43 + '="]\n[gateway]'),
    ],
)
def test_identity_boards_and_bundles_need_a_restart(tmp_path: Path, old: str, new: str) -> None:
    running, wanted = load(tmp_path), load(tmp_path, (old, new))
    (change,) = changes(running, wanted)
    assert not change.live
    assert applied(running, wanted) == running


def test_assets_that_come_and_go_are_one_change_each(tmp_path: Path) -> None:
    without, with_fan = load(tmp_path), load(tmp_path, more=FAN)
    assert sentence(changes(without, with_fan)).endswith("restart: assets.fan (new)")
    assert sentence(changes(with_fan, without)).endswith("restart: assets.fan (gone)")
    # The asset that stays takes its new alarm all the same.
    both = load(tmp_path, ON_DELAY, more=FAN)
    assert applied(without, both).assets["pump"].alarm.on_delay_windows == 6
    assert list(applied(without, both).assets) == ["pump"]


def test_the_sentence_is_bounded(tmp_path: Path) -> None:
    more = "".join(f'[boards.b{i}]\nport = "b{i}"\n' for i in range(50))
    told = sentence(changes(load(tmp_path), load(tmp_path, more=more)))
    assert told.endswith("boards.b11 (new) and 38 more")
