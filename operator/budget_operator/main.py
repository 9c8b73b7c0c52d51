"""The command line: settings, wiring and signals.

`budget-operator run` waits for the Lease, then lists, watches and reconciles until SIGTERM. What runs is in
`process`, what it says of itself in `health`. `budget-operator preflight` is in `preflight`.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from budget_operator import health, logs
from budget_operator.cloud.wiring import gateways
from budget_operator.cluster.kube import Kube, KubeLease, access, connect
from budget_operator.cluster.lease import Lease
from budget_operator.core import crd as crd_document
from budget_operator.core.errors import BudgetError, InvalidSpec
from budget_operator.core.prices.model import PriceList
from budget_operator.core.settings import Credentials, Settings, SettingsError
from budget_operator.daily_prices import DailyPrices
from budget_operator.price_file import PriceFile
from budget_operator.process import USUAL, WORKERS, Operator, Pace, identity, lose_lease
from budget_operator.reconcile import Means, Reconciler
from budget_operator.reconcile.orphans import Survey

log = logging.getLogger("budget_operator")


class Output(StrEnum):
    """How the findings of a check are shown."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(add_completion=False, help="Keeps BudgetDeployments served on Spot VMs.")
prices = typer.Typer(no_args_is_help=True, help="Google's list prices.")
app.add_typer(prices, name="prices")


def build(settings: Settings, pace: Pace) -> Operator:
    """Wire the rooms together."""
    api_client = connect(pool_size=WORKERS + 4)
    kube = Kube(api_client)
    lease = Lease(KubeLease(api_client, settings.system_namespace), identity(), lose_lease, pace.lease)
    prices, renew = _prices(settings)
    means = Means(gateways(settings), fence=lease.fence, prices=prices)
    reconciler = Reconciler(settings, kube, means)
    survey = Survey(settings, kube, means, prices)
    return Operator(kube, lease, access, reconciler, pace, survey.at_rest, renew)


def _prices(settings: Settings) -> tuple[Callable[[], PriceList], Callable[[], None] | None]:
    """The list that is current, and what renews it every day; who stands in for Google has no catalog."""
    if settings.prices is not None:
        return PriceFile(settings.prices).current, None
    daily = DailyPrices()
    return daily.current, None if settings.api_endpoint else daily.refresh


def operate(pace: Pace = USUAL) -> NoReturn:
    """The process from its settings to its exit code."""
    try:
        logs.set_up(os.environ)
        settings = Settings.from_environment(os.environ)
        operator = build(settings, pace)
    except (logs.LogSettingsError, SettingsError, BudgetError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 (the message says it all)
        sys.exit(2)

    _collect_rarely()

    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        operator.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = 1
    try:
        with health.serve(settings.health_port, operator.snapshot):
            code = operator.run()
    except Exception:
        log.exception("the main thread has failed: the process ends so that it is started again")
    logging.shutdown()
    # Workers, kopf and gRPC leave threads behind that must not hold the process.
    os._exit(code)


def _collect_rarely() -> None:
    """What is there by now stays, so that no collection of garbage walks through it: an eighth of the
    processor's time went into collections while hundreds of deployments came up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20)


@app.command()
def run() -> None:
    """Run the operator; its settings are environment variables (see docs)."""
    operate()


@app.command()
def plan(
    file: Annotated[Path, typer.Option("--filename", "-f", help="Manifests, as for kubectl apply.")],
    zones: Annotated[
        str, typer.Option(envvar="BUDGET_ZONES", help="Where spec.placement says nothing.")
    ] = "",
    bucket: Annotated[str, typer.Option(envvar="BUDGET_BUCKET", help="The installation's bucket.")] = "",
    installation: Annotated[
        str, typer.Option(envvar="BUDGET_INSTALLATION", help="Whose names are shown.")
    ] = "default",
    prices_file: Annotated[
        Path | None, typer.Option("--prices", help="Of `prices refresh`; else the shipped table.")
    ] = None,
) -> None:
    """Tell what a deployment would make and cost, and what changing it would do; no cluster is needed."""
    # Imported here: what runs for months does not carry it along.
    from budget_operator import plan_command, prices_command

    place = plan_command.Place(installation, tuple(filter(None, zones.split(","))), bucket)
    try:
        known = prices_command.read(prices_file)
        typer.echo(plan_command.plan(file, place, datetime.now(UTC).date(), known))
    except InvalidSpec as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@app.command()
def orphans(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove them; each is looked at again right before.")
    ] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="for people, or for programs")
    ] = Output.TEXT,
    prices_file: Annotated[
        Path | None, typer.Option("--prices", help="Of `prices refresh`; else the shipped table.")
    ] = None,
) -> None:
    """List what bears the installation's mark and no BudgetDeployment owns, with its price a month.

    Exit code 0: there is nothing (any more); 1: there is; 2: it cannot be told, or not of everything.
    """
    from budget_operator import orphans_command, prices_command

    try:
        settings, known = Settings.from_environment(os.environ), prices_command.read(prices_file)
        command = orphans_command.Command(settings, known, typer.echo, as_json=output is Output.JSON)
        code = command.run(delete=delete)
    except (SettingsError, BudgetError) as error:
        typer.echo(f"nothing is called an orphan: {error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(code)


@app.command()
def in_use() -> None:
    """Say whether there are BudgetDeployments: without an operator nothing of them is removed.

    Exit code 0: there are none; 1: there are; 2: it cannot be told.
    """
    from budget_operator import in_use_command

    try:
        found = in_use_command.names()
    except BudgetError as error:
        typer.echo(f"it cannot be told whether there are BudgetDeployments: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(in_use_command.told(found), err=bool(found))
    raise typer.Exit(1 if found else 0)


@prices.command()
def refresh(
    file: Annotated[Path, typer.Option("--output", "-o", help="Where to write them.")] = Path("prices.json"),
    endpoint: Annotated[str, typer.Option(envvar="BUDGET_API_ENDPOINT", help="Instead of Google's.")] = "",
    credentials: Annotated[
        Credentials, typer.Option(envvar="BUDGET_CREDENTIALS", help="adc: Google's default ones.")
    ] = "adc",
) -> None:
    """Fetch today's list prices from Google's Cloud Billing Catalog."""
    from budget_operator import prices_command
    from budget_operator.cloud.connection import Connection

    try:
        found = prices_command.refresh(file, Connection("", endpoint, credentials), datetime.now(UTC).date())
    except BudgetError as error:
        typer.echo(f"{error.message} {error.remedy}".strip(), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file}: {len(found.regions)} regions")


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition that the models generate."""
    typer.echo(crd_document.render(), nl=False)


@app.command()
def preflight(
    output: Annotated[Output, typer.Option(help="for people, or for programs")] = Output.TEXT,
    operator_account: Annotated[
        str, typer.Option(help="e-mail of the operator's account, where you are somebody else")
    ] = "",
) -> None:
    """Say what is missing in Google Cloud, with the commands that mend it; changes nothing."""
    # Imported here: what runs for months does not carry it along.
    from budget_operator.core.preflight.findings import as_json, as_text, exit_code
    from budget_operator.preflight import preflight as look

    findings = look(os.environ, operator_account)
    typer.echo(as_json(findings) if output is Output.JSON else as_text(findings))
    raise typer.Exit(exit_code(findings))


if __name__ == "__main__":
    app()
