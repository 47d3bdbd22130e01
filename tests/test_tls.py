"""TLS against real brokers: whom we don't trust, who doesn't trust us, and what is said of it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.broker.trial import try_broker
from edge_agent.broker.trouble import unreachable
from edge_agent.config import MqttSettings
from tests.certificates import Authority, Pair, listener
from tests.conftest import Mosquitto, free_port
from tests.publishers import Agent

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Start = Callable[[str], Mosquitto]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("others"), "others")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Pair:
    return ours.issue("broker")


def refusal(port: int, **settings: object) -> str:
    """Why the broker is not reached; it must be one line of our own words."""
    told = try_broker(MqttSettings.model_validate({"port": port, **settings}), "trial")
    assert told
    assert "\n" not in told
    assert "_ssl.c" not in told
    assert "Errno" not in told
    return told


@pytest.mark.parametrize(
    ("dates", "names", "told"),
    [
        ({"begins": -10, "ends": -1}, (), "certificate has expired, by this machine's clock (20"),
        ({"begins": 5}, (), "is not valid yet, by this machine's clock (20"),
        ({}, ("broker.example",), "certificate is not for 127.0.0.1: connect by a name that is"),
        ({}, ("127.0.0.2",), "certificate is not for 127.0.0.1: connect by a name that is in it"),
    ],
)
def test_a_certificate_that_is_not_right_is_refused(
    ours: Authority, mosquitto_with: Start, dates: dict[str, int], names: tuple[str, ...], told: str
) -> None:
    pair = ours.issue("wrong", **dates, **({"names": names} if names else {}))
    assert told in refusal(mosquitto_with(listener(pair)).port, ca_file=ours.ca)


def test_who_signed_it_counts_and_the_file_that_was_expected_is_named(
    ours: Authority, others: Authority, server: Pair, mosquitto_with: Start
) -> None:
    port = mosquitto_with(listener(server)).port
    assert try_broker(MqttSettings(port=port, ca_file=ours.ca), "trial") is None
    told = refusal(port, ca_file=others.ca)
    assert f"by an unknown authority, expected one in {others.ca}: name the file of" in told
    assert "expected one that this system knows" in refusal(port, tls=True)


def test_a_clock_that_begins_in_1970_is_named(ours: Authority) -> None:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = 9
    told = unreachable(error, MqttSettings(ca_file=ours.ca), 42.0)
    assert "is not valid yet, by this machine's clock (1970-01-01): set this clock" in told


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_a_broker_that_wants_our_certificate(
    ours: Authority, others: Authority, server: Pair, mosquitto_with: Start, protocol: str
) -> None:
    port = mosquitto_with(listener(server, ours.ca)).port
    good, stranger = ours.issue("gateway"), others.issue("stranger")
    common = {"ca_file": ours.ca, "protocol": protocol}
    mine = {"certificate_file": good.certificate, "key_file": good.key}
    accepted = MqttSettings.model_validate({"port": port, **common, **mine})
    assert try_broker(accepted, "trial") is None
    # The broker judges after the handshake, and may hang up before its reason is read.
    assert "a certificate of this gateway" in refusal(port, **common)
    wrong = {"certificate_file": stranger.certificate, "key_file": stranger.key}
    assert str(stranger.certificate) in refusal(port, **common, **wrong)


def test_files_that_do_not_fit_are_named(
    ours: Authority, server: Pair, mosquitto_with: Start, tmp_path: Path
) -> None:
    port = mosquitto_with(listener(server)).port
    one, two = ours.issue("one"), ours.issue("two")
    common = {"ca_file": ours.ca, "certificate_file": one.certificate}
    told = refusal(port, **common, key_file=two.key)
    assert f"mqtt.key_file: {two.key} does not belong to {one.certificate}" in told
    assert "is no PEM of its kind" in refusal(port, **common, key_file=_secret(tmp_path, b"x"))
    assert "none: No such file" in refusal(port, ca_file=tmp_path / "none")
    assert "none: No such file" in refusal(port, **common, key_file=tmp_path / "none")
    assert "has no certificate in it: expected PEM" in refusal(port, ca_file=one.key)
    locked = _secret(tmp_path, _with_passphrase(one.key))
    assert "has a passphrase, and nobody to ask" in refusal(port, **common, key_file=locked)


def test_a_key_that_everybody_can_read_is_not_used(
    ours: Authority, server: Pair, mosquitto_with: Start
) -> None:
    mine = ours.issue("mine")
    mine.key.chmod(0o644)
    told = refusal(
        mosquitto_with(listener(server)).port,
        ca_file=ours.ca, certificate_file=mine.certificate, key_file=mine.key,
    )  # fmt: skip
    assert f"{mine.key} can be read by everybody: chmod 600 {mine.key}" in told


def test_passwords_over_tls(
    ours: Authority, server: Pair, mosquitto_with: Start, tmp_path: Path
) -> None:
    users, secret = tmp_path / "users", _secret(tmp_path, b"right\n")
    users.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", users, "press", "right"], check=True)
    more = f"allow_anonymous false\npassword_file {users}\n"
    port = mosquitto_with(listener(server, more=more)).port
    mine = {"ca_file": ours.ca, "username": "press", "password_file": secret}
    assert try_broker(MqttSettings.model_validate({"port": port, **mine}), "trial") is None
    assert "name mqtt.username and mqtt.password_file" in refusal(port, ca_file=ours.ca)
    secret.write_text("wrong-sesame")
    told = refusal(port, **mine)
    assert "refuses the connection: " in told
    assert "check mqtt.username press, its password" in told
    assert "wrong-sesame" not in told
    secret.chmod(0o644)
    assert f"{secret} can be read by everybody: chmod 600 {secret}" in refusal(port, **mine)


def test_tls_where_there_is_none_and_none_where_there_is(
    ours: Authority, server: Pair, mosquitto: Mosquitto, mosquitto_with: Start
) -> None:
    told = refusal(mosquitto.port, ca_file=ours.ca)
    assert "expected a TLS listener: correct mqtt.port (8883 is usual)" in told
    told = refusal(mosquitto_with(listener(server)).port)
    assert "does that port want TLS? then name mqtt.ca_file" in told


@pytest.fixture
def old_broker(server: Pair) -> Iterator[int]:
    """The port of a TLS server that ends at 1.1, as old Windows and PLC brokers do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=_serve, args=(door, context), daemon=True)
        thread.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(door: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = door.accept()
        except OSError:
            return
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                continue


def test_tls_1_1_is_refused_with_the_cure(ours: Authority, old_broker: int) -> None:
    told = refusal(old_broker, ca_file=ours.ca)
    assert "the broker speaks TLS older than 1.2, which is refused: update the broker" in told


def test_nobody_there_and_nobody_of_that_name(ours: Authority) -> None:
    told = refusal(free_port(), ca_file=ours.ca)
    assert "nothing listens there (Connection refused): start the broker, or correct" in told
    told = refusal(1883, ca_file=ours.ca, host="no.such.host.invalid")
    assert "nobody knows the name no.such.host.invalid" in told


def test_the_service_says_the_same_once_and_goes_on_as_soon_as_it_is_mended(
    ours: Authority, others: Authority, server: Pair, mosquitto_with: Start, tmp_path: Path
) -> None:
    """The file of the authority is replaced while the agent runs."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(others.ca.read_bytes())
    port = mosquitto_with(listener(server)).port
    agent = Agent(tmp_path / "state", MqttSettings(port=port, ca_file=ca_file))
    agent.until(lambda: "unknown authority" in agent.log.getvalue())
    agent.offer(1)
    ca_file.write_bytes(ours.ca.read_bytes())
    agent.until(lambda: agent.publisher.connected and agent.publisher.idle())
    assert agent.log.getvalue().count("unknown authority") == 1
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


def _secret(folder: Path, content: bytes) -> Path:
    file = folder / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    return file


def _with_passphrase(key: Path) -> bytes:
    done = subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x"],
        check=True, capture_output=True,
    )  # fmt: skip
    return done.stdout
