"""From files, requirements and settings to what the VM fetches: a deterministic bundle, sealed credentials
and the revision that names them. Pure: nothing is read, written or executed here.

The user's code is only compiled (`sources`). Where files and secrets come from is in `inputs`; what the VM
does with the result is the server's.
"""

import base64
import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from budget_operator.core.api import Server, Spec, seconds
from budget_operator.core.copied import Copied
from budget_operator.core.observed import Content, Contents, Listed

KEY_BYTES = 32
SEAL_PURPOSE = b"budgetml/seal/v1"
NONCE_PURPOSE = b"budgetml/nonce/v1"
REVISION_LENGTH = 12
CODE_PREFIX = "code/"
FILES = "files/"  # below a deployment's own: what revisions share
STATE_PREFIX = "state/"  # what a VM writes: the end of its log
LEDGER_PREFIX = "ledger/"  # what a deployment has cost, by month
FUNCTION_PREFIX = "function/"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Login:
    """Username, password and static token of one endpoint."""

    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Everything a revision is made of."""

    files: Mapping[str, bytes]
    requirements: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    login: Login
    copied: Copied | None = None  # instead of the files


@dataclass(frozen=True)
class Blob:
    """One object of the bucket."""

    name: str
    data: bytes = field(repr=False)
    content_type: str

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the data."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def content(self) -> Content:
        """As the bucket lists it, once it is uploaded."""
        crc32c = int(google_crc32c.value(self.data)).to_bytes(4, "big")
        return Content(len(self.data), base64.b64encode(crc32c).decode())


@dataclass(frozen=True)
class Copy:
    """One object of the bucket that is copied from another bucket."""

    name: str
    bucket: str
    source: Listed

    @property
    def content(self) -> Content:
        """As the bucket lists it, once it is copied."""
        return Content(self.source.size, self.source.crc32c)


def lies_in(held: Contents, wanted: Blob | Copy) -> bool:
    """Whether the bucket has the object, and with just this content as far as it tells."""
    found = held.get(wanted.name)
    return found is not None and found.may_be(wanted.content)


@dataclass(frozen=True)
class Artifact:
    """A revision and its objects: two that are made here, and those that are copied."""

    revision: str
    bundle: Blob
    sealed: Blob
    copies: tuple[Copy, ...] = ()

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What is uploaded."""
        return (self.bundle, self.sealed)

    @property
    def names(self) -> frozenset[str]:
        """What has to lie in the bucket."""
        return frozenset(each.name for each in self._objects)

    def lies_in(self, held: Contents) -> bool:
        """Whether the bucket has all of it."""
        return all(lies_in(held, each) for each in self._objects)

    @property
    def _objects(self) -> tuple[Blob | Copy, ...]:
        return (*self.blobs, *self.copies)


def build(spec: Spec, deployment: str, cloud_name: str, source: Source, key: bytes) -> Artifact:
    """Bundle and seal one revision; the same input gives the same bytes, whoever builds it.

    `deployment` is "<namespace>/<name>". Objects lie below `code/<cloud_name>/<revision>/`.
    """
    own = objects_prefix(cloud_name)
    manifest = _manifest(spec, deployment, source.requirements, _copied(source.copied, own))
    secrets = _canonical(
        {
            "username": source.login.username,
            "password": source.login.password,
            "token": source.login.token,
            "env": dict(source.env),
        }
    )
    revision = _revision(manifest, source.files, secrets, key)
    prefix = f"{own}{revision}/"
    entries = {f"code/{name}": data for name, data in source.files.items()}
    return Artifact(
        revision,
        Blob(f"{prefix}bundle.zip", archive({"manifest.json": manifest, **entries}), "application/zip"),
        Blob(
            f"{prefix}secrets.sealed",
            _seal(secrets, key, f"{cloud_name}/{revision}".encode()),
            "application/octet-stream",
        ),
        _copies(source.copied, own),
    )


def own_prefixes(cloud_name: str) -> tuple[str, ...]:
    """Where all objects of a deployment lie, also those that its VM wrote."""
    return objects_prefix(cloud_name), f"{STATE_PREFIX}{cloud_name}/", f"{LEDGER_PREFIX}{cloud_name}/"


def objects_prefix(cloud_name: str) -> str:
    """Where all revisions of one deployment lie."""
    return f"{CODE_PREFIX}{cloud_name}/"


def function_blob(files: Mapping[str, bytes]) -> Blob:
    """The keep-alive function's source, named by its content."""
    data = archive(files)
    return Blob(f"{FUNCTION_PREFIX}{hashlib.sha256(data).hexdigest()}.zip", data, "application/zip")


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip whose bytes depend on names and contents only.

    Stored, not compressed: zlib's output differs between builds of Python, and the digest travels apart.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            bundle.writestr(entry, files[name])
    return buffer.getvalue()


def _manifest(
    spec: Spec, deployment: str, requirements: tuple[str, ...], copied: Mapping[str, object]
) -> bytes:
    payload = spec.readiness.payload
    return _canonical(
        {
            "version": 1,
            "deployment": deployment,
            "entrypoint": spec.predictor.entrypoint,
            "requirements": list(requirements),
            "readiness": {
                "payload": None if payload is None else dict(payload),
                "startupSeconds": spec.readiness.startup_seconds,
            },
            "server": _server(spec.server),
            "tokenTTLSeconds": seconds(spec.auth.token_ttl),
            **_code(spec),
            **copied,
        }
    )


def _code(spec: Spec) -> dict[str, object]:
    """Where code lies that is not in the bundle. Another image is another revision: it holds other code."""
    if spec.predictor.image is None:
        return {}
    return {"code": {"image": spec.image, "folder": spec.predictor.image}}


def _copied(copied: Copied | None, prefix: str) -> dict[str, object]:
    """Where the VM finds code that is copied, and how it knows it."""
    if copied is None:
        return {}
    files = [
        {
            "path": file.path,
            "object": f"{prefix}{FILES}{file.name}",
            "size": file.source.size,
            "crc32c": file.source.crc32c,
            "md5": file.source.md5,
        }
        for file in copied.files
    ]
    address = copied.address
    return {"copied": {"address": address.text, "archive": address.archive, "files": files}}


def _copies(copied: Copied | None, prefix: str) -> tuple[Copy, ...]:
    """Files of the same content are one object."""
    found = () if copied is None else copied.files
    copies = {file.name: Copy(f"{prefix}{FILES}{file.name}", file.bucket, file.source) for file in found}
    return tuple(copies.values())


def _server(server: Server) -> dict[str, object]:
    """Of the settings beside the oldest two only those that are not the default, which the server knows too.

    So a revision keeps its name, and nothing is rolled out, when an operator comes that knows more settings.
    """
    always = {"workers": server.workers, "threads": server.threads}
    return always | server.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _revision(manifest: bytes, files: Mapping[str, bytes], secrets: bytes, key: bytes) -> str:
    """A keyed digest: it stands in the status, and must not allow to test guesses of a password."""
    content = _canonical(
        {
            "manifest": manifest.decode(),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "secrets": secrets.decode(),
        }
    )
    return hmac.new(key, content, hashlib.sha256).hexdigest()[:REVISION_LENGTH]


def sealed_login(sealed: bytes, key: bytes, cloud_name: str, revision: str) -> Login | None:
    """The login that was sealed with a revision; None if it does not open."""
    try:
        plain = AESGCM(_sealing(key)).decrypt(sealed[:12], sealed[12:], f"{cloud_name}/{revision}".encode())
    except (InvalidTag, ValueError):
        return None
    held = json.loads(plain)
    return Login(held["username"], held["password"], held["token"])


@lru_cache(maxsize=256)  # while a VM comes up every pass builds the same revision
def _seal(plain: bytes, key: bytes, context: bytes) -> bytes:
    """Authenticated encryption, bound to deployment and revision.

    The nonce is a keyed digest of the plain text and its context: two passes give the same bytes, and two
    different texts never share a nonce.
    """
    naming = HKDF(algorithm=SHA256(), length=32, salt=None, info=NONCE_PURPOSE).derive(key)
    nonce = hmac.new(naming, context + b"\0" + plain, hashlib.sha256).digest()[:12]
    return nonce + AESGCM(_sealing(key)).encrypt(nonce, plain, context)


def _sealing(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=SEAL_PURPOSE).derive(key)


def _canonical(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def encoded_key(key: bytes) -> str:
    """The key as it stands in the instance's metadata."""
    return base64.b64encode(key).decode()
