"""Owns the choice of a port for a process that is still to be started."""

import itertools
import random
import socket

# Below the ephemeral ports of Linux (32768 up), macOS and Windows (49152 up) and the NodePorts of Kubernetes
# (30000 up): a port that the kernel hands out may, before its process listens, be an outgoing connection's.
_PORTS = range(20_000, 30_000)
# one after the other from anywhere: a process is never given a port twice before the first one listens
_turns = itertools.count(random.SystemRandom().randrange(len(_PORTS)))


def free_port(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody listens on and no outgoing connection can take; raises OSError if there is none."""
    for turn in itertools.islice(_turns, len(_PORTS)):
        port = _PORTS[turn % len(_PORTS)]
        if is_free(port, address, kind):
            return port
    raise OSError(f"No port on {address} is free; see what listens there: ss -ltn")


def is_free(port: int, address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a process could listen there now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
