"""The certificate authority of all simulated guests, and the TLS settings of each with a certificate by it.

Its key and certificate are files of the local cloud's home, so whoever trusts it does so after a restart.
Guests' certificates are made when somebody asks, are all for one key, and end with the process.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=3650)
_SLOW_CLOCKS = timedelta(days=1)
_KEPT = 1024


class Authority:
    """Signs for whatever names it is told."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> None:
        self._key = key
        self._root = root
        self._guests_key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _pem(root).decode()
        self.context = lru_cache(_KEPT)(self._context)

    @classmethod
    def kept_in(cls, place: Path, now: datetime) -> Authority:
        """The one of this directory; made there if there is none."""
        key_file, root_file = place / "authority.key", place / "authority.pem"
        if key_file.exists() and root_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return cls(key, x509.load_pem_x509_certificate(root_file.read_bytes()))
        key = ec.generate_private_key(ec.SECP256R1())
        root = _root(key, now)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(_key_pem(key))
        # Last, and at once: a key without its certificate is replaced at the next start.
        half = root_file.with_suffix(".new")
        half.write_bytes(_pem(root))
        half.rename(root_file)
        return cls(key, root)

    def _context(self, names: tuple[str, ...]) -> ssl.SSLContext:
        """The TLS settings of a server with these names and addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        # Python takes certificates from files only.
        with tempfile.NamedTemporaryFile() as file:
            file.write(_key_pem(self._guests_key) + _pem(self._leaf(names)))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _leaf(self, names: tuple[str, ...]) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        mine = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(self._guests_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._root.not_valid_before_utc)
            .not_valid_after(self._root.not_valid_after_utc)
            # critical, because the subject is empty
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=True)
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=False)
            .add_extension(mine, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localcloud simulated guests")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLOW_CLOCKS)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
