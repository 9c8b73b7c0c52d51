"""The way to simulated guests without a network: for the operator's prober."""

import json

import httpx

from localcloud.guests.conversation import Asked, answer
from localcloud.guests.residents import Residents
from localcloud.mounted import Mounted

#: The simulation's deployments are served without TLS, so nobody has to know an authority.
NO_AUTHORITY = ""


def install(cloud: Mounted) -> httpx.BaseTransport:
    """Have every running VM tell about itself, and answer what comes through the transport."""
    residents = Residents(cloud.context, NO_AUTHORITY)
    cloud.context.registry.tellers.append(residents.attributes)
    return Streets(residents)


class Streets(httpx.BaseTransport):
    """Leads to whoever lives at the address; where nobody does, nothing answers."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        guest = self._residents.at(request.url.host)
        if guest is None:
            raise httpx.ConnectTimeout("nobody lives there", request=request)
        target = request.url.raw_path.decode("ascii")
        asked = Asked(request.method, target, request.headers["host"], request.read())
        said = answer(guest, asked, encrypted=request.url.scheme == "https")
        body = httpx.ByteStream(json.dumps(said.content).encode())
        return httpx.Response(said.status, headers=dict(said.headers), stream=body)
