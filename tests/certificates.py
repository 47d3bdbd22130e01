"""An authority of the test's own: certificates that are right, and wrong in one way each.

Keys are P-256 and made in memory; everything is written below one folder, keys with mode 600.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = ("localhost", "127.0.0.1")
DAY = dt.timedelta(days=1)


class Pair(NamedTuple):
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path


class Authority:
    """`ca` is the file that everybody trusts who trusts this authority."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name = folder, _name(f"test authority {name}")
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
            .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * DAY).not_valid_after(now + 400 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, names: tuple[str, ...] = HERE, begins: int = -1, ends: int = 90
    ) -> Pair:
        """A certificate for host names and addresses, valid from and until so many days from
        now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder().subject_name(_name(name)).issuer_name(self._name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY).not_valid_after(now + ends * DAY)
            .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )  # fmt: skip
        pair.key.chmod(0o600)
        return pair


def listener(server: Pair, ca: Path | None = None, more: str = "") -> str:
    """Lines for Mosquitto: TLS with this certificate; with `ca` it asks for one, too."""
    lines = f"user root\ncertfile {server.certificate}\nkeyfile {server.key}\n"
    if ca:
        lines += f"cafile {ca}\nrequire_certificate true\n"
    return lines + (more or "allow_anonymous true\n")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
