"""The cloud room put together from the installation's settings: one connection, one gateway per service."""

from collections.abc import Callable, Iterable
from datetime import datetime

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.functions import FunctionsGateway
from budget_operator.cloud.inventory import Gateways, Inventories, Look, at_once
from budget_operator.cloud.probe import HttpProber
from budget_operator.cloud.pubsub import PubSubGateway
from budget_operator.cloud.scheduler import SchedulerGateway
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.clocks import steady_clock, wall_clock
from budget_operator.core.gateways import Cloud
from budget_operator.core.settings import Settings


def gateways(
    settings: Settings,
    clock: Callable[[], datetime] = steady_clock,
    wall: Callable[[], datetime] = wall_clock,
    together: Callable[[Iterable[Look]], None] = at_once,
) -> Cloud:
    """Everything a pass reaches Google Cloud through. Makes no call; clients are built when first used."""
    return cloud_of(services(settings), settings, clock, wall, together)


def services(settings: Settings) -> Gateways:
    """One of each, on one connection."""
    connection = Connection(settings.project, settings.api_endpoint, settings.credentials)
    return Gateways(
        compute=ComputeGateway(connection),
        storage=StorageGateway(connection, settings.bucket),
        pubsub=PubSubGateway(connection),
        scheduler=SchedulerGateway(connection, settings.scheduler_location or settings.region),
        functions=FunctionsGateway(connection, settings.region),
    )


def cloud_of(
    services: Gateways,
    settings: Settings,
    clock: Callable[[], datetime],
    wall: Callable[[], datetime],
    together: Callable[[Iterable[Look]], None],
) -> Cloud:
    """These, with the pictures that are taken of what they show."""
    return Cloud(
        compute=services.compute,
        storage=services.storage,
        pubsub=services.pubsub,
        scheduler=services.scheduler,
        functions=services.functions,
        snapshots=Inventories(services, settings.installation, clock, wall, together=together),
        prober=HttpProber(),
    )
