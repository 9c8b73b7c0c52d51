"""The command line: `localcloud serve` runs it, everything else asks a running one (LOCALCLOUD_URL)."""

from __future__ import annotations

import json
import logging
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from localcloud.settings import Durations, Settings

app = typer.Typer(no_args_is_help=True, help="Google's APIs on one port, with VMs in Docker.")
dns = typer.Typer(no_args_is_help=True, help="The names that VMs see.")
app.add_typer(dns, name="dns")

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


@app.command()
def serve(
    home: Annotated[Path, typer.Option(help="Where all state is kept.")] = Path(".local/localcloud"),
    listen: Annotated[str, typer.Option(help="IP:PORT, reachable by clients and VMs.")] = "127.0.0.1:8085",
    backend: Annotated[Backend, typer.Option(help="What VMs are.")] = Backend.DOCKER,
    network: Annotated[str, typer.Option(help="Docker network of the VMs.")] = Settings.network,
    subnet: Annotated[str, typer.Option(help="Where addresses come from.")] = Settings.subnet,
    vm_image: Annotated[str, typer.Option(help="Docker image that every VM boots.")] = Settings.vm_image,
    notice: Annotated[
        float, typer.Option("--preemption-notice", help="Longest notice of a preemption, in seconds.")
    ] = Durations.notice,
) -> None:
    """Run the local cloud until it is told to stop."""
    import uvicorn

    from localcloud.app import build_context, create_app

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise typer.BadParameter(f"{listen!r} is not IP:PORT", param_hint="--listen")
    settings = Settings(
        home=home.resolve(),
        host=host,
        port=int(port),
        backend=backend.value,
        network=network,
        subnet=subnet,
        vm_image=vm_image,
        durations=Durations(notice=notice),
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Long polls never end by themselves: a stop does not wait for them.
    uvicorn.run(
        create_app(build_context(settings)),
        host=host,
        port=int(port),
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


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
def journal(url: Url = _URL, output: Shape = Output.TABLE, limit: int = 1000) -> None:
    """The API calls that were answered, oldest first."""
    found = _call("GET", url, f"/journal?limit={limit}")["entries"]
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
    """Let a zone have no machines."""
    body = {"zone": zone, "machineType": machine_type}
    _call("DELETE" if over else "POST", url, "/stock-outs", body)


@dns.command("set")
def set_name(name: str, kind: Record, values: list[str], url: Url = _URL) -> None:
    """Let a name lead to these addresses, for VMs and whoever asks the local cloud."""
    _call("POST", url, "/dns", {"name": name, "type": kind.value, "values": values})


@dns.command("unset")
def unset_name(name: str, url: Url = _URL) -> None:
    """Forget a name that was set."""
    _call("DELETE", url, "/dns", {"name": name})


def _call(method: str, url: str, path: str, body: Any = None) -> Any:
    try:
        answer = httpx.request(method, f"{url.rstrip('/')}/_localcloud/v1{path}", json=body, timeout=60)
    except httpx.HTTPError as error:
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
