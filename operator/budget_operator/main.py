"""The command line: settings, wiring and signals.

`budget-operator run` waits for the Lease, then lists, watches and reconciles until SIGTERM. What runs is in
`process`, what it says of itself in `health`.
"""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from budget_operator import health, logs
from budget_operator.cloud.wiring import gateways
from budget_operator.cluster.kube import Kube, KubeLease, access, connect
from budget_operator.cluster.lease import Lease
from budget_operator.core import crd as crd_document
from budget_operator.core.errors import BudgetError
from budget_operator.core.settings import Settings, SettingsError
from budget_operator.process import USUAL, WORKERS, Operator, Pace, identity, lose_lease
from budget_operator.reconcile import Means, Reconciler

log = logging.getLogger("budget_operator")

app = typer.Typer(add_completion=False, help="Keeps BudgetDeployments served on Spot VMs.")


def build(settings: Settings, pace: Pace) -> Operator:
    """Wire the rooms together."""
    api_client = connect(pool_size=WORKERS + 4)
    kube = Kube(api_client)
    lease = Lease(KubeLease(api_client, settings.system_namespace), identity(), lose_lease, pace.lease)
    reconciler = Reconciler(settings, kube, Means(gateways(settings), fence=lease.check_deadline))
    return Operator(kube, lease, access, reconciler, pace)


def operate(pace: Pace = USUAL) -> NoReturn:
    """The process from its settings to its exit code."""
    try:
        logs.set_up(os.environ)
        settings = Settings.from_environment(os.environ)
        operator = build(settings, pace)
    except (logs.LogSettingsError, SettingsError, BudgetError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 (the message says it all)
        sys.exit(2)

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


@app.command()
def run() -> None:
    """Run the operator; its settings are environment variables (see docs)."""
    operate()


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition that the models generate."""
    typer.echo(crd_document.render(), nl=False)


if __name__ == "__main__":
    app()
