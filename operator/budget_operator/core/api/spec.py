"""`spec` of a BudgetDeployment: what users ask for.

Rules that one field's schema cannot say are CEL rules in `json_schema_extra`, so that the API server refuses
what cannot work. What only the operator can check (does the code compile, does pip parse the line) is in
`core.sources`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic.config import JsonDict

from budget_operator.core.api.base import Model
from budget_operator.core.errors import InvalidSpec

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ZONE = r"^[a-z]+-[a-z]+[0-9]+-[a-z]$"
REGION = r"^[a-z]+-[a-z]+[0-9]+$"
MACHINE_TYPE = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
ENTRYPOINT = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
DURATION = r"^[1-9][0-9]{0,5}[smhd]$"
#: As a browser writes it: lower case, no path, no default port.
ORIGIN = r"^(\*|https?://([a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?)$"
#: A domain name in ASCII with at least two labels; a final dot and upper case are normalised by `endpoint`.
HOST = r"^([A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?[.])+[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])[.]?$"
EMAIL = r"^[^@ ,;<>]+@[^@ ,;<>]+[.][^@ ,;<>.]+$"
PLACEHOLDER = r"@([^@]+[.])?example([.](com|org|net))?$|[.](example|invalid|localhost)$"
BUNDLE = r"^\s*-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----"
#: As `docker pull` takes it: [registry/]name[:tag][@digest].
IMAGE = (
    r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([-._]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][-._A-Za-z0-9]{0,127})?(@sha256:[0-9a-f]{64})?$"
)
#: A whole bucket, a folder of it or an archive in it.
GCS = (
    r"^gs://[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]/"
    r"([^ /*?#\[\]\\\x00-\x1f][^*?#\[\]\\\x00-\x1f]*(/|[.]zip|[.]tar[.]gz))?$"
)
#: No part begins with a dot, so none leads elsewhere.
FOLDER = r"^(/[A-Za-z0-9_][-._A-Za-z0-9]*)+$"
#: Dollars, above nought and below a million.
AMOUNT = r"^(0*[1-9][0-9]{0,5}([.][0-9]{1,2})?|0+[.](0[1-9]|[1-9][0-9]?))$"
RESERVED_ENV = "BUDGET_"
INLINE_LIMIT = 262_144


def _amount(value: Any) -> Any:
    """YAML reads 15 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _rule(expression: str, message: str) -> JsonDict:
    return {"rule": expression, "message": message}


class ConfigMapReference(Model):
    """A ConfigMap in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]


SOURCES = ("inline", "configMap", "gcs", "image")
_ONE_SOURCE = "spec.predictor: exactly one of inline, configMap, gcs and image must be set"


class Predictor(Model):
    """Where the model's code comes from: exactly one of inline, configMap, gcs and image."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in SOURCES) + " == 1",
                    _ONE_SOURCE,
                )
            ]
        }
    )

    entrypoint: Annotated[
        str, Field(max_length=253, pattern=ENTRYPOINT, description="module:class of the predictor.")
    ] = "predictor:Predictor"
    inline: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=INLINE_LIMIT,
            description="The source of the entrypoint's module, as one file.",
        ),
    ] = None
    config_map: Annotated[
        ConfigMapReference | None,
        Field(description="A ConfigMap whose keys (data and binaryData) become files."),
    ] = None
    gcs: Annotated[
        str | None,
        Field(
            max_length=1024,
            pattern=GCS,
            description="Code in a bucket: gs://bucket/folder/, or a .zip or .tar.gz in one.",
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(
            max_length=512,
            pattern=FOLDER,
            description="A folder of spec.image that holds the code, such as /app.",
        ),
    ] = None


class SecretKey(Model):
    """One key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class EnvSource(Model):
    """Where a variable's value comes from."""

    secret_key_ref: Annotated[SecretKey, Field(description="A key of a Secret in the same namespace.")]


class EnvVar(Model):
    """One environment variable of the model's process: value or valueFrom."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "has(self.value) != has(self.valueFrom)",
                    "exactly one of value and valueFrom must be set in spec.env",
                ),
                _rule(
                    f"!self.name.startsWith('{RESERVED_ENV}')",
                    f"names in spec.env must not start with {RESERVED_ENV}: these belong to the server",
                ),
            ]
        }
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=ENV_NAME)]
    value: Annotated[str | None, Field(max_length=32_768)] = None
    value_from: EnvSource | None = None


class Auth(Model):
    """The login of the endpoint."""

    secret_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_NAME,
            description="Secret with the keys username, password and token. Made for you if left out.",
        ),
    ] = None
    token_ttl: Annotated[
        str,
        Field(alias="tokenTTL", pattern=DURATION, description="How long a token from /token is valid."),
    ] = "24h"  # noqa: S105 (a duration)


class Machine(Model):
    """The Compute Engine VM."""

    type: Annotated[str, Field(max_length=63, pattern=MACHINE_TYPE)] = "e2-medium"
    provisioning: Literal["Spot", "Standard"] = "Spot"
    disk_gib: Annotated[
        int,
        Field(
            alias="diskGiB",
            ge=10,
            le=2048,
            description="Size of the boot disk in GiB. It can only grow.",
            json_schema_extra={
                "x-kubernetes-validations": [
                    _rule(
                        "self >= oldSelf",
                        "spec.machine.diskGiB can only grow, because no disk shrinks; for a smaller one "
                        "delete the deployment and apply it again",
                    )
                ]
            },
        ),
    ] = 20


_ONE_PLACE = "spec.placement: exactly one of zones and regions must be set"


class Placement(Model):
    """Where the VM may run: exactly one of zones and regions."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule("has(self.zones) != has(self.regions)", _ONE_PLACE),
                _rule("!has(self.prefer) || has(self.regions)", "spec.placement.prefer is for regions"),
                _rule(
                    "!has(self.zones) || self.zones.all(z, z.substring(0, z.lastIndexOf('-')) == "
                    "self.zones[0].substring(0, self.zones[0].lastIndexOf('-')))",
                    "spec.placement.zones must all lie in one region: the address belongs to it",
                ),
            ]
        }
    )

    zones: Annotated[
        tuple[Annotated[str, Field(max_length=63, pattern=ZONE)], ...] | None,
        Field(min_length=1, max_length=8, description="Zones in order of preference, all in one region."),
    ] = None
    regions: Annotated[
        tuple[Annotated[str, Field(max_length=63, pattern=REGION)], ...] | None,
        Field(
            min_length=1,
            max_length=16,
            description="Regions of which one is chosen, and kept from the VM's first boot on.",
        ),
    ] = None
    prefer: Annotated[
        Literal["Cheapest"] | None,
        Field(description="How a region is chosen: the one with the lowest list price, if left out as well."),
    ] = None


class Readiness(Model):
    """When a revision counts as serving."""

    payload: Annotated[
        Mapping[str, JsonValue] | None,
        Field(
            description="Sent to /predict_dict before a revision takes over; the answer must be 2xx.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    startup_seconds: Annotated[
        int, Field(ge=10, le=86_400, description="How long load() may take before it counts as failed.")
    ] = 1800
    failure_seconds: Annotated[
        int, Field(ge=10, le=3600, description="How long a serving endpoint may fail before Ready is False.")
    ] = 60


class Batch(Model):
    """How calls of a class with predict_batch are gathered."""

    max_size: Annotated[int, Field(ge=1, le=4096, description="The most calls in one batch.")] = 32
    window_milliseconds: Annotated[
        int,
        Field(ge=0, le=10_000, description="How long a call waits for others to join it while a batch runs."),
    ] = 5


class Server(Model):
    """The model server's size and limits."""

    workers: Annotated[int, Field(ge=1, le=64, description="Processes; each loads the model.")] = 1
    threads: Annotated[int, Field(ge=1, le=256, description="Predictions at a time in each process.")] = 4
    max_concurrency: Annotated[
        int, Field(ge=1, le=10_000, description="Calls under way at a time in each process.")
    ] = 64
    max_queue: Annotated[
        int, Field(ge=0, le=100_000, description="Calls that wait in each process; the next is answered 429.")
    ] = 128
    max_body_mib: Annotated[
        int, Field(alias="maxBodyMiB", ge=1, le=1024, description="The largest request body in MiB.")
    ] = 32
    batch: Batch = Batch()
    cors_origins: Annotated[
        tuple[Annotated[str, Field(max_length=300, pattern=ORIGIN)], ...],
        Field(
            max_length=32,
            description="Web pages that may call from a browser: scheme://host[:port], or * for all.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = ()


_HOST_HELP = (
    "spec.endpoint.host must be a plain domain name such as model.acme.org: no scheme, port, path, wildcard "
    "or address; write other letters in their xn-- form"
)
_EMAIL_HELP = "spec.endpoint.tls.email must be one e-mail address such as ops@acme.org"
_PLACEHOLDER_HELP = (
    "spec.endpoint.tls.email is a placeholder, which authorities refuse; give your own or leave it out"
)


class Tls(Model):
    """How the endpoint is encrypted. What is left out comes from the installation's settings."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(f"!has(self.email) || self.email.matches({EMAIL!r})", _EMAIL_HELP),
                _rule(
                    f"!has(self.email) || !self.email.lowerAscii().matches({PLACEHOLDER!r})",
                    _PLACEHOLDER_HELP,
                ),
            ]
        }
    )

    mode: Annotated[
        Literal["Acme", "Internal", "Off"] | None,
        Field(
            description="Acme: a certificate that everybody trusts. Internal: signed by the VM itself, "
            "whose root is in the status. Off: plain HTTP, for those who put a proxy of their own in front."
        ),
    ] = None
    email: Annotated[str | None, Field(max_length=254, description="Where the ACME authority writes to.")] = (
        None
    )
    directory: Annotated[
        str | None,
        Field(
            max_length=2048,
            pattern=r"^https://[^/ ]+/[^ ]*$",
            description="URL of an ACME directory; Let's Encrypt if left out.",
        ),
    ] = None
    ca_bundle: Annotated[
        str | None,
        Field(
            max_length=65_536,
            pattern=BUNDLE,
            description="PEM of a private authority: trusted for the directory and the endpoint.",
        ),
    ] = None


class Endpoint(Model):
    """Where callers reach the model."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(f"!has(self.host) || self.host.matches({HOST!r})", _HOST_HELP),
            ]
        }
    )

    host: Annotated[
        str | None,
        Field(
            max_length=254,
            description="Domain name whose A record points to the VM's address; <ip-with-dashes>.sslip.io if "
            "left out. For tls.mode Acme.",
        ),
    ] = None
    tls: Tls = Tls()


class Budget(Model):
    """The most that a month in UTC may cost."""

    monthly: Annotated[
        str,
        Field(
            pattern=AMOUNT,
            max_length=9,
            description='US dollars at list prices, above nought, such as 15 or "12.50".',
            json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 1, "maximum": 999_999},
        ),
        BeforeValidator(_amount),
    ]
    on_exceeded: Annotated[
        Literal["Stop", "Warn"],
        Field(
            description="Stop: the VM is stopped in time for what goes on while it is off, and starts again "
            "with the next month, or when monthly is raised. Warn: it is told, and nothing is done."
        ),
    ] = "Stop"
    warn_at: Annotated[
        int, Field(ge=1, le=100, description="Percent of monthly from which on the status warns.")
    ] = 80

    @property
    def dollars(self) -> float:
        """`monthly` as a number."""
        return float(self.monthly)


_NO_IMAGE = "spec.predictor.image is a folder of spec.image, which must be set as well"


class Spec(Model):
    """spec of a BudgetDeployment."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [_rule("!has(self.predictor.image) || has(self.image)", _NO_IMAGE)]
        }
    )

    predictor: Predictor
    image: Annotated[
        str | None,
        Field(
            max_length=512,
            pattern=IMAGE,
            description="The server's image with what you added to it; the installation's own if left out.",
        ),
    ] = None
    requirements: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...],
        Field(max_length=256, description="Lines of a pip requirements file."),
    ] = ()
    env: Annotated[
        tuple[EnvVar, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    auth: Auth = Auth()
    machine: Machine = Machine()
    placement: Placement | None = None
    endpoint: Endpoint = Endpoint()
    readiness: Readiness = Readiness()
    server: Server = Server()
    budget: Budget | None = None
    suspend: Annotated[
        bool,
        Field(
            description="True: the VM is stopped and stays off; nobody is answered. Its disk stays, and is "
            "paid on, its address is given back, unless endpoint.host points to it. False again starts it."
        ),
    ] = False
    deletion_policy: Annotated[
        Literal["Delete", "Retain"],
        Field(
            description="What becomes of everything in the cloud when the object is deleted. Retain: it "
            "stays and works on; an object of the same namespace and name takes it over again."
        ),
    ] = "Delete"


def parse_spec(document: Any) -> Spec:
    """Validate a live object's spec.

    Raises:
        InvalidSpec: naming the first field that is wrong. Also for objects stored under an older schema.
    """
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["spec", *map(str, first["loc"])])
        raise InvalidSpec(f"{field}: {first['msg']}") from error
    _check_source(spec)
    _check_endpoint(spec.endpoint)
    if spec.placement is not None and (spec.placement.zones is None) == (spec.placement.regions is None):
        raise InvalidSpec(_ONE_PLACE)
    return spec


def _check_source(spec: Spec) -> None:
    given = spec.predictor.model_dump(by_alias=True, exclude_none=True)
    if sum(name in given for name in SOURCES) != 1:
        raise InvalidSpec(_ONE_SOURCE)
    if spec.predictor.image is not None and spec.image is None:
        raise InvalidSpec(_NO_IMAGE)


def _check_endpoint(endpoint: Endpoint) -> None:
    """The CEL rules once more, for objects that were stored under an older schema."""
    if endpoint.host is not None and not re.match(HOST, endpoint.host):
        raise InvalidSpec(_HOST_HELP)
    email = endpoint.tls.email
    if email is not None and not re.match(EMAIL, email):
        raise InvalidSpec(_EMAIL_HELP)
    if email is not None and re.search(PLACEHOLDER, email.lower()):
        raise InvalidSpec(_PLACEHOLDER_HELP)


def seconds(duration: str) -> int:
    """`24h` -> 86400. The form is checked by the schema (`DURATION`)."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]
