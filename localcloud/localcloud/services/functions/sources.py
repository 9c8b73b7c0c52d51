"""Where the archives of functions come from: buckets, and uploads to a URL given out before."""

from __future__ import annotations

import uuid

from localcloud.context import Context
from localcloud.errors import ApiError, not_found
from localcloud.services.functions.runtime import BuildError
from localcloud.services.storage.buckets import Buckets
from localcloud.services.storage.objects import Objects, Place
from localcloud.store import Json

_UPLOADS = "gcf-v2-uploads-1"


class Sources:
    """Reads archives."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._objects = Objects(context, Buckets(context))
        self._folder = context.settings.home / "functions" / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)

    def upload_url(self, location: str) -> Json:
        """A place for one archive, and how a function names it afterwards."""
        name = uuid.uuid4().hex
        bucket = f"{_UPLOADS}-{location}.cloudfunctions.appspot.com"
        (self._folder / name).touch()
        return {
            "uploadUrl": f"{self._context.settings.base_url}/upload/functions/{name}",
            "storageSource": {"bucket": bucket, "object": f"{name}.zip"},
        }

    def upload(self, name: str, content: bytes) -> None:
        place = self._folder / name
        if not name.isalnum() or not place.is_file():
            raise not_found(f"upload/functions/{name}")
        place.write_bytes(content)

    def read(self, source: Json) -> tuple[bytes, str]:
        """The archive and its generation; raises BuildError if there is none."""
        bucket, name = source["bucket"], source["object"]
        uploaded = self._folder / name.removesuffix(".zip")
        if bucket.startswith(f"{_UPLOADS}-") and uploaded.name.isalnum() and uploaded.is_file():
            return uploaded.read_bytes(), "1"
        try:
            record = self._objects.record(Place(bucket, name), source.get("generation") or "")
        except ApiError as error:
            raise BuildError(f"could not read gs://{bucket}/{name}: {error.message}") from error
        return self._objects.content(record), record["generation"]
