"""A revision's bundle and credentials: fetched from the bucket, checked, unpacked, opened.

What lies below `artifacts/<revision>` is complete: it is built beside and moved into place. Credentials stay
sealed there; they are opened in memory only. Nothing here runs the user's code.
"""

import base64
import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from budget_server.vm.archive import unpack as unpack_archive
from budget_server.vm.config import (
    BudgetConfig,
    CopiedCode,
    CopiedFile,
    ImageCode,
    Manifest,
    Secrets,
    first_problem,
)
from budget_server.vm.disk import flush, move
from budget_server.vm.errors import ArtifactInvalid, ArtifactUnreachable, CodeInvalid, Interrupted
from budget_server.vm.metadata import MetadataUnavailable

SEAL_PURPOSE = b"budgetml/seal/v1"
TOKEN_PURPOSE = b"budgetml/token/v1"
_NONCE_BYTES = 12
_ATTEMPTS = 5
_HALF_BUILT = ".building-"


@dataclass(frozen=True)
class Artifact:
    """A revision on this disk."""

    config: BudgetConfig
    manifest: Manifest
    secrets: Secrets
    code_dir: Path


def derive(key: bytes, purpose: bytes) -> bytes:
    """The key for one purpose, from the deployment's key."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def open_sealed(sealed: bytes, key: bytes, config: BudgetConfig) -> Secrets:
    """Open a revision's credentials; they are bound to their deployment and revision."""
    context = f"{config.deployment}/{config.revision}".encode()
    try:
        cipher = AESGCM(derive(key, SEAL_PURPOSE))
        plain = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        return Secrets.model_validate_json(plain)
    except ValidationError as error:
        raise ArtifactInvalid(f"The sealed credentials cannot be read: {first_problem(error)}") from None
    except (InvalidTag, ValueError):
        raise ArtifactInvalid(
            f"The sealed credentials do not open with this VM's budget-key as {context.decode()}"
        ) from None


class Artifacts:
    """The revisions below one directory, and the way to get more of them."""

    def __init__(
        self,
        root: Path,
        token: Callable[[], str],
        pause: Callable[[float], object],
        given_up: Callable[[], bool],
    ) -> None:
        self._root = root
        self._token = token
        self._pause = pause
        self._given_up = given_up

    def fetch(self, config: BudgetConfig, key: bytes) -> Artifact:
        """The revision, from this disk where its hashes are right, else from the bucket."""
        place = self._root / config.revision
        if not _is_whole(place, config):
            half = self._root / f"{_HALF_BUILT}{config.revision}"
            try:
                self._build(half, config)
                shutil.rmtree(place, ignore_errors=True)
                move(half, place)
            finally:
                shutil.rmtree(half, ignore_errors=True)
        manifest = _read_manifest(place / "manifest.json")
        return Artifact(
            config=config,
            manifest=manifest,
            secrets=open_sealed((place / "secrets.sealed").read_bytes(), key, config),
            code_dir=place / "code" if manifest.code is None else code_of(manifest.code),
        )

    def sweep(self) -> None:
        """Remove what a power loss left half built."""
        for path in self._root.glob(f"{_HALF_BUILT}*"):
            shutil.rmtree(path, ignore_errors=True)

    def prune(self, keep: frozenset[str]) -> None:
        """Remove every revision but these."""
        for path in self._root.iterdir():
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _build(self, half: Path, config: BudgetConfig) -> None:
        half.mkdir(mode=0o755)
        for name, sha256, file in (
            (config.bundle, config.bundle_sha256, "bundle.zip"),
            (config.sealed, config.sealed_sha256, "secrets.sealed"),
        ):
            self._download(config, name, half / file, partial(_problem, sha256))
        unpack(half / "bundle.zip", half)
        copied = _read_manifest(half / "manifest.json").copied
        if copied is not None:
            self._fetch_copied(half, config, copied)
        for path in (*half.rglob("*"), half):
            flush(path)

    def _fetch_copied(self, half: Path, config: BudgetConfig, copied: CopiedCode) -> None:
        code, packed = half / "code", half / "archive"
        for file in copied.files:
            target = packed if copied.archive else code / _inside(file.path)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if held := self._held(file):
                os.link(held, target)
                continue
            self._download(config, file.object, target, partial(_problem_of_copy, file))
            target.chmod(0o644)
        if copied.archive:
            try:
                unpack_archive(packed, copied.archive, code, self._given_up)
            except CodeInvalid as error:
                raise CodeInvalid(f"spec.predictor.gcs: {copied.address}: {error.message}") from error
            packed.unlink()

    def _held(self, file: CopiedFile) -> Path | None:
        """The same content in another revision on this disk: what is large is not fetched for each."""
        for manifest in self._root.glob("*/manifest.json"):
            with suppress(ArtifactInvalid):
                copied = _read_manifest(manifest).copied
                if copied is None or copied.archive:
                    continue
                for other in copied.files:
                    path = manifest.parent / "code" / _inside(other.path)
                    if other.object == file.object and path.is_file():
                        return path
        return None

    def _download(
        self, config: BudgetConfig, name: str, path: Path, problem: Callable[["_Fetched"], str]
    ) -> None:
        url = f"{config.storage}/storage/v1/b/{quote(config.bucket, safe='')}/o/{quote(name, safe='')}"
        cause = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(min(2**attempt, 15))
            if self._given_up():
                raise Interrupted
            try:
                fetched = self._stream(url, path)
            except httpx.HTTPStatusError as error:
                cause = f"HTTP {error.response.status_code}"
                # 403 and 404 included: new permissions and objects take a while to be seen everywhere
                continue
            except (httpx.HTTPError, MetadataUnavailable) as error:
                cause = str(error) or type(error).__name__
                continue
            if wrong := problem(fetched):
                raise ArtifactInvalid(f"gs://{config.bucket}/{name} has {wrong}")
            return
        raise ArtifactUnreachable(f"gs://{config.bucket}/{name} could not be fetched: {cause}")

    def _stream(self, url: str, path: Path) -> "_Fetched":
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        headers = {"Authorization": f"Bearer {self._token()}"}
        with (
            httpx.stream("GET", url, params={"alt": "media"}, headers=headers, timeout=30) as response,
            path.open("wb") as file,
        ):
            path.chmod(0o600)
            response.raise_for_status()
            for chunk in response.iter_bytes():
                if self._given_up():
                    raise Interrupted
                for digest in (sha256, md5):
                    digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        told = response.headers.get("x-goog-hash", "")
        sums = [part.strip() for part in told.split(",")]
        crc32c = next((each.removeprefix("crc32c=") for each in sums if each.startswith("crc32c=")), "")
        return _Fetched(sha256.hexdigest(), base64.b64encode(md5.digest()).decode(), size, crc32c)


@dataclass(frozen=True)
class _Fetched:
    """What came: its sums in the spelling of those who promise them, and what Cloud Storage says it sent."""

    sha256: str
    md5: str
    size: int
    crc32c: str


def _problem(sha256: str, fetched: _Fetched) -> str:
    return "" if fetched.sha256 == sha256 else f"sha256 {fetched.sha256}, wanted {sha256}"


def _problem_of_copy(wanted: CopiedFile, fetched: _Fetched) -> str:
    """Where there is no MD5, the sum of the object that was sent, and its length."""
    if wanted.md5 and fetched.md5 != wanted.md5:
        return f"MD5 {fetched.md5}, wanted {wanted.md5}"
    if (fetched.crc32c, fetched.size) != (wanted.crc32c, wanted.size):
        return f"CRC32C {fetched.crc32c} and {fetched.size} bytes, wanted {wanted.crc32c} and {wanted.size}"
    return ""


def _inside(path: str) -> PurePosixPath:
    name = PurePosixPath(path)
    if name.is_absolute() or not name.parts or ".." in name.parts:
        raise ArtifactInvalid(f"The bundle names a file that is not allowed: {path!r}")
    return name


def code_of(code: ImageCode) -> Path:
    """The folder of the image that this runs in.

    Raises:
        CodeInvalid: it has no such folder.
    """
    folder = Path(code.folder)
    if not folder.is_dir():
        raise CodeInvalid(f"spec.predictor.image: there is no folder {code.folder} in {code.image}")
    return folder


def unpack(bundle: Path, into: Path) -> None:
    """Unpack `manifest.json` and `code/…`, readable by everybody; refuse names that lead elsewhere."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            for entry in archive.infolist():
                _unpack_entry(archive, entry, into)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ArtifactInvalid(f"The bundle is not a readable zip file: {error}") from error
    (into / "code").mkdir(mode=0o755, exist_ok=True)


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path) -> None:
    name = PurePosixPath(entry.filename)
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    in_place = name.parts[:1] == ("code",) or name == PurePosixPath("manifest.json")
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or is_link or not in_place:
        raise ArtifactInvalid(f"The bundle holds an entry that is not allowed: {entry.filename!r}")
    target = into / name
    if entry.is_dir():
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(0o644)


def _read_manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactInvalid("The bundle has no manifest.json") from None
    except ValidationError as error:
        raise ArtifactInvalid(f"The bundle's manifest.json cannot be read: {first_problem(error)}") from None


def _is_whole(place: Path, config: BudgetConfig) -> bool:
    wanted = ((place / "bundle.zip", config.bundle_sha256), (place / "secrets.sealed", config.sealed_sha256))
    return all(path.is_file() and _sha256(path) == sha256 for path, sha256 in wanted)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
