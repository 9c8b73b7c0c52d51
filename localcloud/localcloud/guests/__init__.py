"""Simulated guests: what a simulated VM answers at its own loopback address, in the place of a real one.

`guest` is what the project's VM would be, read from an instance's metadata; `residents` finds it by address;
`conversation` is its side of HTTP; `authority` signs for it; `listener` is the one listener for all of them.
There is no model and no credential behind it: a guest echoes what it is asked.
"""

from __future__ import annotations

from localcloud.context import Context
from localcloud.guests.authority import Authority
from localcloud.guests.listener import Listener
from localcloud.guests.residents import Residents


def install(context: Context) -> None:
    """Have every running VM of this local cloud answer and tell about itself."""
    authority = Authority.kept_in(context.settings.home / "guests", context.clock.now())
    residents = Residents(context, authority.certificate)
    context.registry.tellers.append(residents.attributes)
    listener = Listener(residents.at, authority.context, context.settings.guest_ports)
    context.registry.background.append(listener)
