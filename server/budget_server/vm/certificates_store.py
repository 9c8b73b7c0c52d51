"""Certificates, the authority's account and the ledger of orders, on the volume.

Caddy keeps the account and what it has just obtained in its own storage; from there a certificate comes here,
in one file with its key, which Caddy serves and no longer looks after. `pack` and `unpack` are for the copy
that outlives this disk.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationError

from budget_server.vm import disk
from budget_server.vm.certificates_rules import Ledger, Subject, Validity
from budget_server.vm.process import log

_PACKED_VERSION = 1
_PACKED = re.compile(r"(acme/[^/]+/users/[^/]+/[^/]+|certificates/[^/]+\.pem|certificates/ledger\.json)")


@dataclass(frozen=True)
class Certificate:
    """One on this disk, whose key belongs to it."""

    path: Path
    names: frozenset[str]
    serial: int
    validity: Validity


def certificate_path(folder: Path, subject: Subject) -> Path:
    """Where a subject's certificate lies with its key: another authority's is another one."""
    directory = hashlib.sha256(subject.directory.encode()).hexdigest()[:12]
    return folder / f"{subject.name.replace(':', '-')}.{directory}.pem"


class Store:
    """What is kept below two directories, of process 1 and of Caddy."""

    def __init__(self, own: Path, caddy: Path) -> None:
        self._own = own
        self._caddy = caddy
        own.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def is_new(self) -> bool:
        """Whether this disk has never held any of it."""
        return not any(self._own.iterdir())

    def ledger(self) -> Ledger:
        path = self._own / "ledger.json"
        try:
            return Ledger.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Ledger()
        except ValidationError as error:
            log(
                f"The ledger of certificate orders is unreadable and begun anew: {error.error_count()} errors"
            )
            return Ledger()

    def keep(self, ledger: Ledger) -> None:
        disk.write(self._own / "ledger.json", ledger.model_dump_json())

    def certificate(self, subject: Subject) -> Certificate | None:
        certificate = _read(certificate_path(self._own, subject))
        return certificate if certificate and subject.name in certificate.names else None

    def others(self) -> tuple[Certificate, ...]:
        """All that are here, the longest valid first."""
        found = [each for path in self._own.glob("*.pem") if (each := _read(path))]
        return tuple(sorted(found, key=lambda each: -each.validity.not_after))

    def has_obtained(self, subject: Subject, since: float, now: float) -> bool:
        """Whether Caddy has got a certificate for this subject since then."""
        return self._new(subject, since, now) is not None

    def adopt(self, subject: Subject, since: float, now: float) -> bool:
        """Take over what Caddy has got; whether there was something."""
        text = self._new(subject, since, now)
        if text is None:
            return False
        disk.write(certificate_path(self._own, subject), text)
        self._prune(now)
        return True

    def forget_obtained(self, subject: Subject) -> None:
        """So that Caddy obtains another one."""
        for folder in self._obtained(subject):
            for path in folder.iterdir():
                path.unlink(missing_ok=True)

    def copied(self) -> str:
        """The digest of what `pack` had when the copy was last written."""
        try:
            return (self._own / "copied").read_text()
        except OSError:
            return ""

    def note_copied(self, packed: bytes) -> None:
        disk.write(self._own / "copied", hashlib.sha256(packed).hexdigest())

    def pack(self) -> bytes:
        """Account, certificates and ledger in one piece."""
        files = {
            f"{prefix}{path.relative_to(root).as_posix()}": base64.b64encode(path.read_bytes()).decode()
            for prefix, root in (("certificates/", self._own), ("", self._caddy))
            for path in sorted(root.rglob("*"))
            if path.is_file() and _PACKED.fullmatch(f"{prefix}{path.relative_to(root).as_posix()}")
        }
        return json.dumps({"version": _PACKED_VERSION, "files": files}).encode()

    def unpack(self, packed: bytes) -> None:
        """Put back what `pack` has taken; ValueError if it is something else."""
        document = json.loads(packed)
        if not isinstance(document, dict) or document.get("version") != _PACKED_VERSION:
            raise ValueError("the copy has another form")
        files = {str(name): base64.b64decode(text) for name, text in document["files"].items()}
        if strange := [name for name in files if not _PACKED.fullmatch(name) or ".." in name]:
            raise ValueError(f"the copy holds {strange[0]!r}")
        # the ledger last: with it this disk is no longer new
        for name in sorted(files, key=lambda each: each.endswith("ledger.json")):
            place = (
                self._own / name.partition("/")[2] if name.startswith("certificates/") else self._caddy / name
            )
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.write(place, files[name].decode())

    def _obtained(self, subject: Subject) -> Iterator[Path]:
        for folder in self._caddy.glob(f"certificates/*/{subject.name}"):
            if folder.parent.name != "local":
                yield folder

    def _new(self, subject: Subject, since: float, now: float) -> str | None:
        for folder in self._obtained(subject):
            pair = [folder / f"{subject.name}.{part}" for part in ("crt", "key")]
            try:
                written = min(path.stat().st_mtime for path in pair)
                text = "".join(path.read_text() for path in pair)
            except OSError:
                continue  # not complete yet
            parsed = _parse(certificate_path(self._own, subject), text)
            if parsed and written >= since and subject.name in parsed.names and parsed.validity.holds(now):
                return text
        return None

    def _prune(self, now: float) -> None:
        for each in self.others():
            if not each.validity.holds(now):
                each.path.unlink(missing_ok=True)


def _read(path: Path) -> Certificate | None:
    try:
        return _parse(path, path.read_text())
    except OSError:
        return None


def _parse(path: Path, text: str) -> Certificate | None:
    try:
        leaf = x509.load_pem_x509_certificates(text.encode())[0]
        key = load_pem_private_key(
            text[text.index("-----BEGIN", text.rindex("-----END CERT")) :].encode(), None
        )
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None
    if key.public_key() != leaf.public_key():
        return None  # of two writings that a power cut has mixed
    addresses = (str(each) for each in names.get_values_for_type(x509.IPAddress))
    validity = Validity(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())
    all_names = frozenset((*names.get_values_for_type(x509.DNSName), *addresses))
    return Certificate(path, all_names, leaf.serial_number, validity)
