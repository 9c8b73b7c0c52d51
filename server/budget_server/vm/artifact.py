"""A revision's bundle and credentials: fetched from the bucket, checked, unpacked, opened.

What lies below `artifacts/<revision>` is complete: it is built beside and moved into place. Credentials stay
sealed there; they are opened in memory only. Nothing here runs the user's code.
"""

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from budget_server.vm.config import BudgetConfig, Manifest, Secrets, first_problem
from budget_server.vm.disk import flush, move
from budget_server.vm.errors import ArtifactInvalid, ArtifactUnreachable, Interrupted
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
        return Artifact(
            config=config,
            manifest=_read_manifest(place / "manifest.json"),
            secrets=open_sealed((place / "secrets.sealed").read_bytes(), key, config),
            code_dir=place / "code",
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
        self._download(config, config.bundle, config.bundle_sha256, half / "bundle.zip")
        self._download(config, config.sealed, config.sealed_sha256, half / "secrets.sealed")
        unpack(half / "bundle.zip", half)
        for path in (*half.rglob("*"), half):
            flush(path)

    def _download(self, config: BudgetConfig, name: str, sha256: str, path: Path) -> None:
        url = f"{config.storage}/storage/v1/b/{quote(config.bucket, safe='')}/o/{quote(name, safe='')}"
        cause = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(min(2**attempt, 15))
            if self._given_up():
                raise Interrupted
            try:
                digest = self._stream(url, path)
            except httpx.HTTPStatusError as error:
                cause = f"HTTP {error.response.status_code}"
                # 403 and 404 included: new permissions and objects take a while to be seen everywhere
                continue
            except (httpx.HTTPError, MetadataUnavailable) as error:
                cause = str(error) or type(error).__name__
                continue
            if digest != sha256:
                raise ArtifactInvalid(f"gs://{config.bucket}/{name} has sha256 {digest}, wanted {sha256}")
            return
        raise ArtifactUnreachable(f"gs://{config.bucket}/{name} could not be fetched: {cause}")

    def _stream(self, url: str, path: Path) -> str:
        digest = hashlib.sha256()
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
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()


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
