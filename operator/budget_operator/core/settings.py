"""The installation's settings, from environment variables; an error names each variable that is wrong.

What a single deployment may say stands in its spec (`api`). Nothing here tells Google from a local cloud: the
two differ by an endpoint and by credentials.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from budget_operator.core import api, names

T = TypeVar("T")
Credentials = Literal["adc", "anonymous"]
TlsMode = Literal["Acme", "Internal", "Off"]

COS_IMAGE = "projects/cos-cloud/global/images/family/cos-stable"
DEFAULT_NETWORK = "global/networks/default"
DEFAULT_ACCOUNT = "default"  # Compute Engine's word for the project's default service account
CHECKOUT_FUNCTION_SOURCE = Path(__file__).resolve().parents[3] / "restart_function"
GCLOUD_LOGS = (
    "gcloud logging read --project={project} --freshness=1h"
    " --format='value(jsonPayload.message,textPayload)'"
    ' \'resource.type="gce_instance" labels."compute.googleapis.com/resource_name"="{name}"\''
)

_PROJECT = re.compile(r"[a-z][-.:a-z0-9]{1,61}[a-z0-9]")
_BUCKET = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")
_ZONE = re.compile(api.ZONE.strip("^$"))
_INSTALLATION = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LOCATION = re.compile(r"([a-z]+-[a-z]+[0-9]+)?")
_RUNTIME = re.compile(r"python3[0-9]{1,2}")


class SettingsError(Exception):
    """The environment is not usable; the message names every variable and what is wrong with it."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Settings:
    """How this installation is set up."""

    project: str
    zones: tuple[str, ...]
    bucket: str
    image: str
    installation: str = "default"
    vm_image: str = COS_IMAGE
    network: str = DEFAULT_NETWORK
    api_endpoint: str = ""
    credentials: Credentials = "adc"
    schedule: str = "* * * * *"
    time_zone: str = "Etc/UTC"
    function_runtime: str = "python312"
    function_source: Path = CHECKOUT_FUNCTION_SOURCE
    vm_service_account: str = DEFAULT_ACCOUNT
    function_service_account: str = ""
    trigger_service_account: str = ""
    build_service_account: str = ""
    scheduler_location: str = ""  # empty: the region
    tls_mode: TlsMode = "Internal"
    acme_email: str = ""
    acme_directory: str = ""
    acme_ca_bundle: str = ""
    takeover: bool = False
    system_namespace: str = "budgetml-system"
    health_port: int = 8080
    logs_command: str = GCLOUD_LOGS
    prices: Path | None = None  # None: the table that is shipped

    @property
    def region(self) -> str:
        """Region of the bucket and the function."""
        return names.region_of(self.zones[0])

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings.

        Raises:
            SettingsError: naming every variable that is missing or wrong.
        """
        read = _Reader(environment)
        settings = cls(
            project=read.required("BUDGET_PROJECT", _matching(_PROJECT, "a project id")),
            zones=read.required("BUDGET_ZONES", _zones) or (),
            bucket=read.required("BUDGET_BUCKET", _matching(_BUCKET, "a bucket's name")),
            image=read.required("BUDGET_IMAGE", _text),
            installation=read.get("BUDGET_INSTALLATION", "default", _matching(_INSTALLATION, "a short name")),
            vm_image=read.get("BUDGET_VM_IMAGE", COS_IMAGE, _text),
            network=read.get("BUDGET_NETWORK", DEFAULT_NETWORK, _text),
            api_endpoint=read.get("BUDGET_API_ENDPOINT", "", _endpoint),
            credentials=read.get("BUDGET_CREDENTIALS", "adc", _credentials),
            schedule=read.get("BUDGET_SCHEDULE", "* * * * *", _schedule),
            time_zone=read.get("BUDGET_TIME_ZONE", "Etc/UTC", _text),
            function_runtime=read.get(
                "BUDGET_FUNCTION_RUNTIME", "python312", _matching(_RUNTIME, "like python312")
            ),
            function_source=read.get("BUDGET_FUNCTION_SOURCE", str(CHECKOUT_FUNCTION_SOURCE), _directory),
            vm_service_account=read.get("BUDGET_VM_SERVICE_ACCOUNT", DEFAULT_ACCOUNT, _text),
            function_service_account=read.get("BUDGET_FUNCTION_SERVICE_ACCOUNT", "", _text),
            trigger_service_account=read.get("BUDGET_TRIGGER_SERVICE_ACCOUNT", "", _text),
            build_service_account=read.get("BUDGET_BUILD_SERVICE_ACCOUNT", "", _text),
            scheduler_location=read.get(
                "BUDGET_SCHEDULER_LOCATION", "", _matching(_LOCATION, "like us-central1")
            ),
            tls_mode=read.get("BUDGET_TLS_MODE", "Internal", _tls_mode),
            acme_email=read.get("BUDGET_ACME_EMAIL", "", _email),
            acme_directory=read.get("BUDGET_ACME_DIRECTORY", "", _acme_directory),
            acme_ca_bundle=read.get("BUDGET_ACME_CA_BUNDLE", "", _bundle),
            takeover=read.get("BUDGET_TAKEOVER", "false", _flag),
            system_namespace=read.get("POD_NAMESPACE", "budgetml-system", _text),
            health_port=read.get("BUDGET_HEALTH_PORT", "8080", _port),
            logs_command=read.get("BUDGET_LOGS_COMMAND", GCLOUD_LOGS, _template),
            prices=read.get("BUDGET_PRICES", "", _file),
        )
        if read.problems:
            raise SettingsError(*read.problems)
        return settings


class _Reader:
    """Reads variables and collects what is wrong, so that one start shows everything."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def required(self, name: str, parse: Callable[[str], T]) -> T:
        value = self._environment.get(name, "").strip()
        if not value:
            self.problems.append(f"{name} is not set")
            return cast("T", None)
        return self._parsed(name, value, parse)

    def get(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        return self._parsed(name, self._environment.get(name, "").strip() or default, parse)

    def _parsed(self, name: str, value: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(value)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return cast("T", None)


def _text(value: str) -> str:
    return value


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not {what}")
        return value

    return parse


def _zones(value: str) -> tuple[str, ...]:
    zones = tuple(zone.strip() for zone in value.split(",") if zone.strip())
    for zone in zones:
        if not _ZONE.fullmatch(zone):
            raise ValueError(f"{zone!r} is not a zone like us-central1-a")
    if len({names.region_of(zone) for zone in zones}) != 1:
        raise ValueError("give one or more zones, separated by commas, all in one region")
    return zones


def _endpoint(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} does not start with http:// or https://")
    return value.rstrip("/")


def _credentials(value: str) -> Credentials:
    if value == "adc":
        return "adc"
    if value == "anonymous":
        return "anonymous"
    raise ValueError(f"{value!r} is neither adc nor anonymous")


def _tls_mode(value: str) -> TlsMode:
    for mode in get_args(TlsMode):
        if value == mode:
            return cast("TlsMode", mode)
    raise ValueError(f"{value!r} is none of {', '.join(get_args(TlsMode))}")


def _email(value: str) -> str:
    if value and (not re.match(api.EMAIL, value) or re.search(api.PLACEHOLDER, value.lower())):
        raise ValueError(f"{value!r} is not an e-mail address of yours")
    return value


def _acme_directory(value: str) -> str:
    if value and not value.startswith("https://"):
        raise ValueError(f"{value!r} does not start with https://")
    return value


def _bundle(value: str) -> str:
    if value and not re.match(api.BUNDLE, value):
        raise ValueError("it is not a PEM certificate")
    return value


def _schedule(value: str) -> str:
    if len(value.split()) != 5:
        raise ValueError(f'{value!r} is not a cron schedule with five fields like "* * * * *"')
    return value


def _directory(value: str) -> Path:
    path = Path(value)
    if not (path / "main.py").is_file():
        raise ValueError(f"{value} is not a directory with a main.py")
    return path


def _file(value: str) -> Path | None:
    if value and not Path(value).is_file():
        raise ValueError(f"{value} is not a file")
    return Path(value) if value else None


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value == "true"


def _port(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65_536:
        raise ValueError(f"{value!r} is not a port")
    return int(value)


def _template(value: str) -> str:
    try:
        value.format(name="n", project="p", zone="z")
    except (KeyError, IndexError, ValueError):
        raise ValueError("only {name}, {project} and {zone} may stand in braces") from None
    return value
