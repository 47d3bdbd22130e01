"""Trouble: why the broker can't be reached, in words that say what was expected and what to do.

In: errors of sockets, TLS and files, and the broker's settings. Out: one line each.
Never: connects, reads a file, shows what is in one.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from pathlib import Path

from edge_agent.config import MqttSettings, uses_tls

# Of OpenSSL's x509_vfy.h.
NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
WRONG_NAME = (62, 64)

TOO_OLD = ("TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION")
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING")
NONE_SHOWN = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
NOT_TAKEN = (
    "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV1_ALERT_DECRYPT_ERROR", "TLSV1_ALERT_ACCESS_DENIED",
)  # fmt: skip

_REASON = re.compile(r"\[\w+: (\w+)\]")


class FilesError(ValueError):
    """A file of the broker's settings can't be used; the text says which, and what to do."""


def unreachable(error: OSError | ValueError, settings: MqttSettings, unix_s: float) -> str:
    """Why there is no connection. `unix_s` is this machine's clock, which may be wrong."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _not_trusted(error, settings, unix_s)
    if isinstance(error, FilesError):
        return str(error)
    told = tls_alert(str(error), settings) if isinstance(error, ssl.SSLError) else ""
    if told:
        return told
    if isinstance(error, socket.gaierror):
        why = f"nobody knows the name {settings.host} ({error.strerror})"
        return f"{why}: correct mqtt.host, or this machine's DNS"
    if isinstance(error, ConnectionRefusedError):
        do = "start the broker, or correct mqtt.host and mqtt.port"
        return f"nothing listens there (Connection refused): {do}"
    if isinstance(error, TimeoutError):
        do = "check mqtt.host, the firewall, and IPAddressAllow= of the unit"
        return f"no answer ({error.strerror or 'timed out'}): {do}"
    if isinstance(error, ConnectionResetError) and uses_tls(settings):
        return _no_tls("the connection was reset")
    return str(error)


def tls_alert(text: str, settings: MqttSettings) -> str:
    """What OpenSSL's `[SSL: REASON] ...` means; empty if there is no such word in it."""
    found = _REASON.search(text)
    reason = found.group(1) if found else ""
    if not reason:
        return ""
    if reason in TOO_OLD:
        do = "update the broker, or allow it TLS 1.2 (Mosquitto: tls_version tlsv1.2)"
        return f"the broker speaks TLS older than 1.2, which is refused: {do}"
    if reason in NO_TLS:
        return _no_tls("what answers speaks no TLS")
    mine = settings.certificate_file
    if reason in NONE_SHOWN and mine is None:
        do = "name mqtt.certificate_file and mqtt.key_file"
        return f"the broker wants a certificate of this gateway and there is none: {do}"
    if reason in NOT_TAKEN or reason in NONE_SHOWN:
        why = reason.partition("ALERT_")[2].replace("_", " ").lower()
        do = "expected one by the authority that the broker trusts, valid today: issue it anew"
        return f"the broker does not take {mine or 'us'} ({why}): {do}"
    return f"TLS failed ({reason.replace('_', ' ').lower()}): check both ends' certificates"


def closed_early(settings: MqttSettings) -> str:
    """What to think of when a broker hangs up before it has answered, without a word."""
    if not uses_tls(settings):
        return "does that port want TLS? then name mqtt.ca_file"
    if settings.certificate_file is None:
        return "does it want a certificate of this gateway? then name mqtt.certificate_file"
    return f"does it trust who made {settings.certificate_file}, and speak MQTT on that port?"


def not_let_in(settings: MqttSettings) -> str:
    """What to do when the broker refuses the connection itself."""
    if settings.username is None:
        return "name mqtt.username and mqtt.password_file"
    return f"check mqtt.username {settings.username}, its password, and the broker's list of users"


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """TLS 1.2 or later with the files of the settings, which are read now.

    Raises `FilesError` for a file that is missing, no PEM, or a key that everybody can read.
    """
    ca_file, certificate, key = settings.ca_file, settings.certificate_file, settings.key_file
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise FilesError(_unusable("ca_file", ca_file, error)) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate and key:
        _check_key(key)
        try:
            context.load_cert_chain(certificate, key, password=_no_question)
        except OSError as error:
            raise FilesError(_unusable_pair(certificate, key, error)) from None
    return context


def _check_key(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise FilesError(_unusable("key_file", key, error)) from None
    if mode & 0o004:
        raise FilesError(f"mqtt.key_file: {key} can be read by everybody: chmod 600 {key}")


def _no_question() -> str:
    """OpenSSL would ask at the terminal, and a service would wait for ever."""
    raise FilesError("mqtt.key_file has a passphrase, and nobody to ask: give a key without one")


def _unusable(key: str, file: Path | None, error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"mqtt.{key}: {file} has no certificate in it: expected PEM, -----BEGIN CERTIFICATE"
    return f"mqtt.{key}: {file}: {error.strerror or error}"


def _unusable_pair(certificate: Path, key: Path, error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"mqtt.certificate_file: {certificate}, or its key {key}: {error.strerror or error}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"mqtt.key_file: {key} does not belong to {certificate}: expected the key of it"
    return f"mqtt.certificate_file, key_file: {certificate} or {key} is no PEM of its kind: " + (
        "expected -----BEGIN CERTIFICATE in one, -----BEGIN PRIVATE KEY in the other"
    )


def _not_trusted(error: ssl.SSLCertVerificationError, settings: MqttSettings, unix_s: float) -> str:
    """The certificate that the broker has shown is not accepted."""
    code = error.verify_code
    today = time.strftime("%Y-%m-%d", time.gmtime(unix_s))
    if code == EXPIRED:
        do = "renew it at the broker, or set this clock"
        return f"the broker's certificate has expired, by this machine's clock ({today}): {do}"
    if code == NOT_YET_VALID:
        do = "set this clock (timedatectl), or issue the certificate anew"
        return f"the broker's certificate is not valid yet, by this machine's clock ({today}): {do}"
    if code in UNKNOWN_ISSUER:
        by = f"one in {settings.ca_file}" if settings.ca_file else "one that this system knows"
        do = "name the file of the broker's own authority as mqtt.ca_file"
        return f"the broker's certificate is by an unknown authority, expected {by}: {do}"
    if code in WRONG_NAME:
        do = "connect by a name that is in it, or issue one with this name"
        return f"the broker's certificate is not for {settings.host}: {do}"
    return f"the broker's certificate is refused ({error.verify_message}): issue it anew"


def _no_tls(seen: str) -> str:
    return f"{seen}, expected a TLS listener: correct mqtt.port (8883 is usual), or give it TLS"
