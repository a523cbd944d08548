"""Mutual TLS between two processes that have been told each other's certificates: nobody else is trusted."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile

import msgspec

VALID = timedelta(days=3650)
"""As long as a process may run; it keeps its certificate."""

NAME = "mlx-server"


class Identity(msgspec.Struct, frozen=True):
    """A certificate that is signed by nobody else, and its key: both in PEM."""

    certificate: str
    key: str


def make_identity() -> Identity:
    """A new one, on the curve P-256. Needs the extra `ray`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of machines differ.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(certificate.public_bytes(pem).decode(), private.decode())


def context_of(own: Identity, peer: str, *, calls: bool) -> ssl.SSLContext:
    """For connections to the one whose certificate is `peer`; `calls`: it is called, else it calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if calls else ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is known
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=peer)
    with NamedTemporaryFile("w", suffix=".pem") as file:  # the module reads keys from files alone
        file.write(own.key + own.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return context
