"""The way to simulated guests without a network: for the operator's prober."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from budget_operator.cloud.doors import Answer, NoConnection, Request
from budget_operator.core.gateways import Door
from localcloud.guests.conversation import Asked, answer
from localcloud.guests.residents import Residents
from localcloud.mounted import Mounted

#: The simulation's deployments are served without TLS, so nobody has to know an authority.
NO_AUTHORITY = ""


def install(cloud: Mounted) -> "Streets":
    """Have every running VM tell about itself, and answer what comes along the streets."""
    residents = Residents(cloud.context, NO_AUTHORITY)
    cloud.context.registry.tellers.append(residents.attributes)
    return Streets(residents)


class Streets:
    """`cloud.probe.Way`: leads to whoever lives at the address; where nobody does, nothing answers."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents

    def ask_kept(self, doors: Sequence[Door], request: Request) -> Mapping[Door, Answer]:
        """All that answer: whoever lives there has no connection that could have been closed."""
        answers = {}
        for door in doors:
            with suppress(NoConnection):
                answers[door] = self.ask(door, request)
        return answers

    def ask(self, door: Door, request: Request) -> Answer:
        guest = self._residents.at(door.ip)
        if guest is None:
            raise NoConnection
        scheme, _, host = door.url.partition("://")
        asked = Asked(request.method, request.path, host, request.body or b"")
        said = answer(guest, asked, encrypted=scheme == "https")
        return Answer(said.status, json.dumps(said.content).encode())
