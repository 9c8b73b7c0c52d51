"""A port that is chosen now is still free when its process listens."""

import socket
from pathlib import Path

from localcloud.ports import free_port, is_free


def test_no_port_that_the_kernel_gives_to_outgoing_connections() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert max(free_port() for _ in range(100)) < int(first)


def test_no_port_twice() -> None:
    assert len({free_port() for _ in range(100)}) == 100


def test_none_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert port not in {free_port() for _ in range(10_000)}
