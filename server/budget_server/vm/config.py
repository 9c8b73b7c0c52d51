"""`budget-config` of the instance's metadata and the bundle's manifest, as frozen models.

Both are written by the operator; how they travel is the business of `metadata` and `artifact`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from budget_server.vm.errors import ArtifactInvalid

GOOGLE_STORAGE = "https://storage.googleapis.com"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True)


class Tls(_Document):
    """By which certificate the endpoint is known; not part of a revision."""

    mode: Literal["Internal", "Acme", "Off"] = "Internal"
    #: Empty: a name is made from the address.
    host: str = ""
    email: str = ""
    #: Of the ACME authority; empty: Let's Encrypt.
    directory: str = ""
    #: PEM of the authority of the directory itself; empty: any that the machine trusts.
    ca_bundle: str = ""


class BudgetConfig(_Document):
    """The revision that this VM should serve, and where it lies."""

    version: Literal[1] = 1
    image: str
    #: Whether the code lies in the image: then no other one can serve the revision.
    image_code: bool = False
    deployment: str
    revision: str = Field(pattern=r"^[0-9a-f]{12}$")
    bucket: str
    bundle: str
    bundle_sha256: str = Field(alias="bundleSha256")
    sealed: str
    sealed_sha256: str = Field(alias="sealedSha256")
    api_endpoint: str = ""
    tls: Tls = Tls()

    @property
    def served(self) -> Self:
        """What of it a revision is made of: all but the certificate's part."""
        return self.model_copy(update={"tls": Tls()})

    @property
    def storage(self) -> str:
        return (self.api_endpoint or GOOGLE_STORAGE).rstrip("/")


class Readiness(_Document):
    payload: dict[str, JsonValue] | None = None
    startup_seconds: float = Field(default=1800, gt=0)


class Batch(_Document):
    max_size: int = Field(default=32, ge=1)
    window_milliseconds: int = Field(default=5, ge=0)


class Server(_Document):
    """What the manifest leaves out has its default; the web side checks the values once more."""

    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=4, ge=1)
    max_concurrency: int = Field(default=64, ge=1)
    max_queue: int = Field(default=128, ge=0)
    max_body_mib: int = Field(alias="maxBodyMiB", default=32, ge=1)
    batch: Batch = Batch()
    cors_origins: tuple[str, ...] = ()


class ImageCode(_Document):
    """Code that an image brings."""

    image: str
    folder: str


class CopiedFile(_Document):
    """One object of the bucket, whose content is a file of the code, or an archive of them."""

    path: str
    object: str
    size: int = Field(ge=0)
    crc32c: str
    #: Empty: Cloud Storage knows none.
    md5: str = ""


class CopiedCode(_Document):
    """Code that was copied from a bucket of the user's own."""

    address: str
    archive: Literal["", "zip", "tar.gz"] = ""
    files: tuple[CopiedFile, ...]


class Manifest(_Document):
    """`manifest.json` of the bundle: everything about a revision that is not secret."""

    version: Literal[1]
    deployment: str
    entrypoint: str
    requirements: tuple[str, ...] = ()
    readiness: Readiness = Readiness()
    server: Server = Server()
    token_ttl_seconds: int = Field(alias="tokenTTLSeconds", default=86400, gt=0)
    #: Where the code is that does not lie in the bundle.
    code: ImageCode | None = None
    copied: CopiedCode | None = None


class Secrets(_Document):
    """Login and environment of a revision; sealed in the bucket, never on this disk in the clear."""

    username: str = Field(repr=False)
    password: str = Field(repr=False)
    token: str = Field(repr=False)
    env: dict[str, str] = Field(default={}, repr=False)

    def values(self) -> tuple[str, ...]:
        """What of them must not appear in any log; a name alone opens nothing."""
        return (self.password, self.token, *self.env.values())


def parse_config(text: str) -> BudgetConfig:
    """The model of `budget-config`, or an error that names the field."""
    try:
        return BudgetConfig.model_validate_json(text)
    except ValidationError as error:
        problem = first_problem(error)
        raise ArtifactInvalid(f"The metadata entry budget-config cannot be read: {problem}") from None


def first_problem(error: ValidationError) -> str:
    """Field and cause of the first problem, without the input (it may be a secret)."""
    problem = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}"
