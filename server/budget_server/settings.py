"""What the web side is told, and nothing else: the environment, read once.

Process 1 (`vm/`) sets these variables for gunicorn; a person may set them by hand.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
)

from budget_server.errors import SettingsError

MAX_PASSWORD_BYTES = 1024
MIN_KEY_BYTES = 32
_ORIGIN = re.compile(r"https?://[^\s/?#@]+")
_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _password(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) > MAX_PASSWORD_BYTES:
        raise ValueError(f"is longer than {MAX_PASSWORD_BYTES} bytes")
    return value


def _token(value: SecretStr) -> SecretStr:
    if value.get_secret_value() != value.get_secret_value().strip():
        raise ValueError("begins or ends with white space, which no HTTP header can carry")
    return value


def _key(value: object) -> bytes:
    try:
        key = bytes.fromhex(str(value))
    except ValueError:
        raise ValueError("is not hexadecimal") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"is shorter than {MIN_KEY_BYTES} bytes ({2 * MIN_KEY_BYTES} hexadecimal digits)")
    return key


def _entrypoint(value: str) -> str:
    if not _ENTRYPOINT.fullmatch(value):
        raise ValueError("is not of the form module:Class")
    return value


def _origins(value: object) -> tuple[str, ...]:
    origins = tuple(str(value).split())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"has {origin[:100]!r}, which is not of the form https://host or https://host:port"
            )
    return origins


def _directory(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError("is not a directory")
    return value


class Settings(BaseModel):
    """The server's settings; field aliases are the environment variables."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    username: str = Field(alias="BUDGET_USERNAME")
    password: Annotated[SecretStr, AfterValidator(_password)] = Field(alias="BUDGET_PWD")
    token: Annotated[SecretStr, AfterValidator(_token)] = Field(alias="BUDGET_TOKEN")
    signing_key: Annotated[SecretBytes, BeforeValidator(_key)] = Field(alias="BUDGET_SIGNING_KEY")
    token_ttl: int = Field(alias="BUDGET_TOKEN_TTL", default=86400, ge=1)
    """Seconds a token from /token is good for."""
    name: str = Field(alias="BUDGET_NAME")
    """namespace/name of the deployment; issuer and audience of its tokens."""
    revision: str = Field(alias="BUDGET_REVISION", default="")
    entrypoint: Annotated[str, AfterValidator(_entrypoint)] = Field(
        alias="BUDGET_ENTRYPOINT", default="predictor:Predictor"
    )
    code_dir: Annotated[Path, AfterValidator(_directory)] = Field(alias="BUDGET_CODE_DIR")
    workers: int = Field(alias="BUDGET_WORKERS", default=1, ge=1, le=64)
    threads: int = Field(alias="BUDGET_THREADS", default=4, ge=1, le=256)
    max_concurrency: int = Field(alias="BUDGET_MAX_CONCURRENCY", default=64, ge=1, le=10_000)
    """Predictions at a time in each worker."""
    max_queue: int = Field(alias="BUDGET_MAX_QUEUE", default=128, ge=0, le=100_000)
    """Requests that wait in each worker; the next is answered 429."""
    max_body_mib: int = Field(alias="BUDGET_MAX_BODY_MIB", default=32, ge=1, le=1024)
    batch_size: int = Field(alias="BUDGET_BATCH_SIZE", default=32, ge=1, le=4096)
    batch_window_ms: int = Field(alias="BUDGET_BATCH_WINDOW_MS", default=5, ge=0, le=10_000)
    """How long a call waits for company while another batch runs; an idle predictor is never waited for."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = Field(
        alias="BUDGET_CORS_ORIGINS", default=()
    )
    """Web pages that may call from a browser, such as https://app.example.com; "*" is all."""
    failure_file: Path | None = Field(alias="BUDGET_FAILURE_FILE", default=None)
    """Where a failed load is told to process 1, as JSON with reason, message and log."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; an empty one counts as missing."""
        given = {name: value for name, value in environ.items() if value.strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(_problem(dict(item)) for item in error.errors(include_context=True))
            raise SettingsError(f"The server cannot start: {problems}.") from None


def _problem(item: dict[str, Any]) -> str:
    variable = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{variable} is missing or empty"
    if item["type"] == "value_error":
        return f"{variable} {item['ctx']['error']}"
    return f"{variable}: {item['msg']}"
