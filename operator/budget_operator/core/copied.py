"""Code in a bucket of the user's own: what an address names, what of it is taken, and within which limits.

Nothing of the content comes here: Cloud Storage copies it into the installation's bucket, from where the VM
fetches it. What is looked up, and how often, is in `reconcile.buckets`. Pure.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from budget_operator.core.errors import InvalidSpec, ReferenceMissing
from budget_operator.core.observed import Listed
from budget_operator.core.sources import module_file

FIELD = "spec.predictor.gcs"
MOST_FILES = 500
MOST_MIB = 5120
#: What is asked for: so many objects are too many, whatever they are.
LOOK_AT_MOST = 2 * MOST_FILES
ARCHIVES = ("zip", "tar.gz")
_MIB = 2**20
_LOOKED_AT = "looked at again every minute"


@dataclass(frozen=True)
class Address:
    """A folder or an archive: `gs://bucket/path/`, `gs://bucket/path.zip`."""

    text: str

    @property
    def bucket(self) -> str:
        return self._parts[0]

    @property
    def path(self) -> str:
        """What the names begin with, or the name of the archive."""
        return self._parts[1]

    @property
    def archive(self) -> str:
        """One of `ARCHIVES`; empty for a folder."""
        return next((kind for kind in ARCHIVES if self.path.endswith(f".{kind}")), "")

    @property
    def _parts(self) -> tuple[str, str]:
        bucket, _, path = self.text.removeprefix("gs://").partition("/")
        return bucket, path


@dataclass(frozen=True)
class File:
    """One file of the code, or the archive, and the object that it is copied from."""

    path: str  # below the code's folder
    bucket: str
    source: Listed

    @property
    def name(self) -> str:
        """By its content: what has not changed is not copied again. Some objects have no MD5."""
        source = self.source
        text = f"{source.size} {source.crc32c} {source.md5 or source.generation}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Copied:
    """All of the code at an address."""

    address: Address
    files: tuple[File, ...]


def select(address: Address, found: tuple[Listed, ...], entrypoint: str) -> Copied:
    """What is copied of the objects that were found.

    Raises:
        ReferenceMissing: there is nothing.
        InvalidSpec: it is too much, or has names that cannot be files.
    """
    files = tuple(_archive(address, found) if address.archive else _folder(address, found))
    for file in files:
        if file.source.encoding:
            raise _refused(f"gs://{address.bucket}/{file.source.name} is stored with Content-Encoding "
                           f"{file.source.encoding}; upload it without")  # fmt: skip
    size = sum(file.source.size for file in files)
    if size > MOST_MIB * _MIB:
        raise _refused(f"{address.text} has {size / _MIB:.0f} MiB, and at most {MOST_MIB} MiB are copied")
    if not address.archive:
        _check_names(address, files, entrypoint)
    return Copied(address, files)


def _archive(address: Address, found: Iterable[Listed]) -> Iterator[File]:
    archive = next((each for each in found if each.name == address.path), None)
    if archive is None:
        raise ReferenceMissing(f"{FIELD}: there is no object {address.text}", retry=_LOOKED_AT)
    yield File("", address.bucket, archive)


def _folder(address: Address, found: tuple[Listed, ...]) -> Iterator[File]:
    """Consoles make empty objects whose names end with a slash, to show a folder."""
    files = [each for each in found if not each.name.endswith("/")]
    if not files:
        raise ReferenceMissing(f"{FIELD}: there is no object below {address.text}", retry=_LOOKED_AT)
    if len(files) > MOST_FILES or len(found) >= LOOK_AT_MOST:
        raise _refused(f"{address.text} has more than {MOST_FILES} files; put them into a .zip or .tar.gz")
    for each in files:
        yield File(each.name.removeprefix(address.path), address.bucket, each)


def _check_names(address: Address, files: tuple[File, ...], entrypoint: str) -> None:
    paths = {file.path for file in files}
    for path in sorted(paths):
        parts = path.split("/")
        odd = not path.isprintable() or "\\" in path or any(len(part.encode()) > 255 for part in parts)
        if odd or {"", ".", ".."} & set(parts):
            raise _refused(f"the object {address.path + path!r} has a name that no file can have")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if both := next((folder for folder in above if folder in paths), None):
            raise _refused(f"{address.path + both!r} is an object and a folder, and can only be one of them")
    module = module_file(entrypoint)
    if module not in paths:
        present = ", ".join(sorted(paths))[:500]
        raise InvalidSpec(
            f"spec.predictor.entrypoint: there is no file {module} in {address.text} (files: {present})",
            retry=_LOOKED_AT,
        )


def _refused(problem: str) -> InvalidSpec:
    return InvalidSpec(f"{FIELD}: {problem}", retry=_LOOKED_AT)
