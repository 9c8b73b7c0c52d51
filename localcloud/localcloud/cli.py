"""The command line: `localcloud serve` runs it, everything else asks a running one (LOCALCLOUD_URL)."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import httpx
import typer

from localcloud.settings import GOOGLES, Durations, Settings

app = typer.Typer(no_args_is_help=True, help="Google's APIs on one port, with VMs in Docker.")
dns = typer.Typer(no_args_is_help=True, help="The names that VMs see.")
iam = typer.Typer(no_args_is_help=True, help="Which permissions accounts have.")
fault = typer.Typer(no_args_is_help=True, help="What goes wrong on purpose.")
app.add_typer(dns, name="dns")
app.add_typer(fault, name="fault")
app.add_typer(iam, name="iam")

Url = Annotated[str, typer.Option("--url", envvar="LOCALCLOUD_URL", help="Where the local cloud listens.")]
_URL = "http://127.0.0.1:8085"
_FOLLOW_SECONDS = 0.5


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


Shape = Annotated[Output, typer.Option("--output", "-o", help="For people or for programs.")]


class Record(StrEnum):
    A = "A"
    AAAA = "AAAA"


class Backend(StrEnum):
    DOCKER = "docker"
    SIMULATED = "simulated"
    SIMULATED_GUESTS = "simulated-guests"

    @property
    def subnet(self) -> str:
        """Where addresses come from if nothing else is said."""
        return "127.77.0.0/16" if self is Backend.SIMULATED_GUESTS else Settings.subnet


@app.command()
def serve(  # noqa: PLR0913, PLR0917 (one for each option)
    home: Annotated[Path, typer.Option(help="Where all state is kept.")] = Path(".local/localcloud"),
    listen: Annotated[str, typer.Option(help="IP:PORT, reachable by clients and VMs.")] = "127.0.0.1:8085",
    backend: Annotated[
        Backend, typer.Option(help="What VMs are; simulated-guests answer on ports 80 and 443.")
    ] = Backend.DOCKER,
    network: Annotated[str, typer.Option(help="Docker network of the VMs.")] = Settings.network,
    subnet: Annotated[
        str,
        typer.Option(
            help="Where addresses come from.",
            show_default=f"{Backend.DOCKER.subnet}; {Backend.SIMULATED_GUESTS.subnet} for simulated-guests",
        ),
    ] = "",
    vm_image: Annotated[str, typer.Option(help="Docker image that every VM boots.")] = Settings.vm_image,
    tunnel: Annotated[
        str, typer.Option(help="IP:PORT of an HTTP proxy to the VMs, for who does not reach their addresses.")
    ] = "",
    duration: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SECONDS that something takes, or google: all as there; repeatable."),
    ] = None,
) -> None:
    """Run the local cloud until it is told to stop."""
    import uvicorn

    from localcloud.app import build_context, create_app

    host, port = _endpoint(listen, "--listen")
    try:
        settings = Settings(
            home=home.resolve(),
            host=host,
            port=port,
            backend=backend.value,
            network=network,
            subnet=subnet or backend.subnet,
            vm_image=vm_image,
            durations=_durations(duration or ()),
            tunnel=_endpoint(tunnel, "--tunnel") if tunnel else None,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--subnet") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Long polls never end by themselves: a stop does not wait for them.
    uvicorn.run(
        create_app(build_context(settings)),
        host=host,
        port=port,
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


def _endpoint(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter(f"{text!r} is not IP:PORT", param_hint=option)
    return host, int(port)


def _durations(given: Iterable[str]) -> Durations:
    seconds = asdict(Durations())
    for text in given:
        if text == "google":
            seconds = asdict(GOOGLES)
            continue
        name, _, value = text.partition("=")
        if name not in seconds or not re.fullmatch(r"\d+(\.\d+)?", value):
            known = ", ".join(seconds)
            raise typer.BadParameter(f"{text!r} is neither google nor NAME=SECONDS with one of {known}")
        seconds[name] = float(value)
    return Durations(**seconds)


@app.command("ls")
def list_resources(url: Url = _URL, output: Shape = Output.TABLE) -> None:
    """Everything that users have made; nothing when nothing is left."""
    found = _call("GET", url, "/resources")["resources"]
    _show(found, ("kind", "name", "location", "state"), output)


@app.command()
def preempt(name: str, url: Url = _URL) -> None:
    """Take a Spot VM away, as Google would."""
    typer.echo(_call("POST", url, f"/preempt/{name}")["name"])


@app.command()
def tick(job: str, url: Url = _URL) -> None:
    """Run a Cloud Scheduler job now."""
    typer.echo(json.dumps(_call("POST", url, f"/tick/{job}")))


@app.command()
def journal(
    url: Url = _URL,
    output: Shape = Output.TABLE,
    limit: int = 1000,
    permission: Annotated[
        str, typer.Option(help="Only such calls: compute.instances.create, compute.*")
    ] = "*",
    effective: Annotated[bool, typer.Option("--effective", help="Only what took effect.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Only how many.")] = False,
) -> None:
    """The API calls that were answered, oldest first."""
    wanted = {"permission": permission, "effective": str(effective).lower()}
    if count:
        typer.echo(_call("GET", url, f"/journal/count?{urlencode(wanted)}")["count"])
        return
    found = _call("GET", url, f"/journal?{urlencode(wanted | {'limit': str(limit)})}")["entries"]
    _show(found, ("time", "status", "method", "path", "agent"), output)


@app.command()
def logs(
    name: str,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added.")] = False,
    url: Url = _URL,
) -> None:
    """The console of a VM, or the output of a function."""
    shown = 0
    while True:
        text = _call("GET", url, f"/logs/{name}")["text"]
        if len(text) < shown:  # the VM was made anew
            shown = 0
        typer.echo(text[shown:], nl=False)
        shown = len(text)
        if not follow:
            return
        time.sleep(_FOLLOW_SECONDS)


@app.command("stock-out")
def stock_out(
    zone: str,
    machine_type: Annotated[str, typer.Argument(help="Only this type; otherwise all.")] = "",
    over: Annotated[bool, typer.Option("--over", help="There is stock again.")] = False,
    url: Url = _URL,
) -> None:
    """Let a zone have no machines; short for `fault add stock-out` and `fault rm`."""
    wanted = {"kind": "stock-out", "zone": zone, "machineType": machine_type}
    if not over:
        _call("POST", url, "/faults", wanted)
        return
    found = [each for each in _call("GET", url, "/faults")["faults"] if wanted.items() <= each.items()]
    if not found:
        typer.echo(f"No stock-out of {machine_type or 'everything'} in {zone}.", err=True)
        raise typer.Exit(1)
    for each in found:
        _call("DELETE", url, f"/faults/{each['id']}")


@fault.command("add")
def add_fault(
    kind: str,
    fields: Annotated[
        list[str] | None, typer.Argument(help="FIELD=VALUE, such as zone=us-central1-a.")
    ] = None,
    url: Url = _URL,
) -> None:
    """Make something bad happen: call, stock-out, quota, slow-boot and more; an unknown kind lists all."""
    body: dict[str, Any] = {"kind": kind}
    for text in fields or ():
        name, found, value = text.partition("=")
        if not found:
            raise typer.BadParameter(f"{text!r} is not FIELD=VALUE")
        body[name] = value
    typer.echo(_call("POST", url, "/faults", body)["id"])


@fault.command("ls")
def list_faults(url: Url = _URL, output: Shape = Output.TABLE) -> None:
    """The faults in force."""
    found = _call("GET", url, "/faults")["faults"]
    if output is Output.TABLE:
        found = [
            {"id": each.pop("id"), "kind": each.pop("kind"), "fields": json.dumps(each)} for each in found
        ]
    _show(found, ("id", "kind", "fields"), output)


@fault.command("rm")
def remove_faults(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ids, as `fault ls` shows them; otherwise all.")
    ] = None,
    url: Url = _URL,
) -> None:
    """Let it be good again."""
    for name in names or ():
        _call("DELETE", url, f"/faults/{name}")
    if not names:
        _call("DELETE", url, "/faults")


@iam.command("bind")
def bind_roles(
    account: str,
    roles: Annotated[
        list[Path], typer.Argument(help="Files as `gcloud iam roles create --file` takes them.")
    ],
    on: Annotated[str, typer.Option(help="Only on resources with names like this; * is anything.")] = "*",
    url: Url = _URL,
) -> None:
    """Give an account the permissions of roles. From the first one on it has no others."""
    from localcloud.iam import permissions_in  # the web server's modules, of which other commands need none

    for role in roles:
        try:
            permissions = sorted(permissions_in(role.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{role}: {error}") from error
        _call("POST", url, "/iam", {"account": account, "permissions": permissions, "on": on})


@iam.command("ls")
def list_bindings(url: Url = _URL, output: Shape = Output.TABLE) -> None:
    """What accounts may do that may not do everything."""
    found = _call("GET", url, "/iam")["bindings"]
    rows = [each | {"permissions": " ".join(sorted(each["permissions"]))} for each in found]
    _show(rows, ("account", "on", "permissions"), output)


@iam.command("unbind")
def unbind_roles(account: str, url: Url = _URL) -> None:
    """Let an account do everything again."""
    _call("DELETE", url, f"/iam/{account}")


@iam.command("key")
def make_key(account: str, file: Path, url: Url = _URL) -> None:
    """Write a key with which Google's libraries are this account (GOOGLE_APPLICATION_CREDENTIALS)."""
    from localcloud.accounts import new_key

    file.write_text(json.dumps(new_key(account, url), indent=2))
    file.chmod(0o600)


@dns.command("set")
def set_name(name: str, kind: Record, values: list[str], url: Url = _URL) -> None:
    """Let a name lead to these addresses, for VMs and whoever asks the local cloud."""
    _call("POST", url, "/dns", {"name": name, "type": kind.value, "values": values})


@dns.command("unset")
def unset_name(name: str, url: Url = _URL) -> None:
    """Forget a name that was set."""
    _call("DELETE", url, "/dns", {"name": name})


def _call(method: str, url: str, path: str, body: Any = None) -> Any:
    tls = not url.startswith("http://")  # without, reading all authorities' certificates is for nothing
    try:
        answer = httpx.request(
            method, f"{url.rstrip('/')}/_localcloud/v1{path}", json=body, timeout=60, verify=tls
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        typer.echo(f"No local cloud answers at {url} ({error}). Is LOCALCLOUD_URL right?", err=True)
        raise typer.Exit(1) from error
    if answer.is_success:
        return answer.json()
    typer.echo(answer.json()["error"]["message"] if "json" in _kind(answer) else answer.text, err=True)
    raise typer.Exit(1)


def _kind(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", ""))


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    widths = [max((len(str(row[column])) for row in rows), default=0) for column in columns]
    for row in rows:
        cells = (str(row[column]).ljust(width) for column, width in zip(columns, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
