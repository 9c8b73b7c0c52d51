"""The overlay for kind says what `make kind` makes; what is made for the node is what its parts expect."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from budget_operator.core.settings import Settings
from dev import environment
from dev.docker import Docker
from dev.errors import DevError
from dev.kind import cluster, install, kubeadm_images
from dev.kind.kubeadm_images import Entry
from dev.paths import KIND, MAIN


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((install.OVERLAY / name).read_text()))


@pytest.fixture
def localcloud() -> Any:
    """The local cloud's pod."""
    (deployment,) = [each for each in documents("localcloud.yaml") if each["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def test_the_local_cloud_is_told_the_network_that_is_made(localcloud: Any) -> None:
    options = dict(word.split("=", 1) for word in localcloud["containers"][0]["args"][1:])
    assert options["--network"] == KIND.network
    # Docker takes addresses for containers that ask for none from the other half
    lower, upper = options["--subnet"], KIND.unnamed
    assert (lower, upper) == ("10.202.57.0/25", "10.202.57.128/25")
    assert options["--listen"] == f"$(HOST_IP):{cluster.CLOUD_PORT}"
    assert options["--tunnel"] == f"$(HOST_IP):{cluster.TUNNEL_PORT}"
    assert localcloud["hostNetwork"]


def test_the_engines_socket_is_where_the_node_has_it(localcloud: Any) -> None:
    paths = {each["name"]: each["hostPath"]["path"] for each in localcloud["volumes"] if "hostPath" in each}
    assert paths["docker"] == cluster.SOCKET


def test_the_operator_has_the_settings_that_it_has_as_a_process() -> None:
    given = dict(line.split("=", 1) for line in (install.OVERLAY / "settings.env").read_text().splitlines())
    (operator,) = documents("operator.yaml")
    names = [each["name"] for each in operator["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert names == ["HOST_IP", "BUDGET_API_ENDPOINT"]
    usual = environment.operator(MAIN)
    assert given == {name: usual[name] for name in given}
    of_the_pod = {"BUDGET_HEALTH_PORT", "BUDGET_API_ENDPOINT", "BUDGET_FUNCTION_SOURCE"}
    assert {name for name in usual if name.startswith("BUDGET_")} - of_the_pod == set(given)
    assert Settings.from_environment(given | {"BUDGET_API_ENDPOINT": "http://10.202.57.3:8085"})


def test_the_cluster_publishes_both_ports_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(KIND), "port", lambda self, name: {"cloud": 20001, "tunnel": 20002}[name])
    config: Any = cluster.config(Docker("unix:///run/here.sock", "docker"), KIND)
    (node,) = config["nodes"]
    assert node["extraPortMappings"] == [
        {"containerPort": 8085, "hostPort": 20001, "listenAddress": "127.0.0.1"},
        {"containerPort": 8086, "hostPort": 20002, "listenAddress": "127.0.0.1"},
    ]
    assert node["extraMounts"] == [{"hostPath": "/run/here.sock", "containerPath": cluster.SOCKET}]


def test_an_engine_elsewhere_is_refused() -> None:
    with pytest.raises(DevError, match=r"tcp://10\.0\.0\.1:2375 is none"):
        cluster.config(Docker("tcp://10.0.0.1:2375", "docker"), KIND)


def test_a_layer_holds_files_links_and_the_folders_above(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"static")
    entries = [Entry("/usr/local/bin/p", program), Entry("/usr/sbin/iptables", link="xtables-nft-multi")]
    with tarfile.open(fileobj=io.BytesIO(kubeadm_images.layer(entries))) as tar:
        found = {member.name: member for member in tar}
        assert [name for name, each in found.items() if each.isdir()] == [
            *("etc", "tmp", "usr", "usr/local", "usr/local/bin", "usr/sbin"),
        ]
        assert found["usr/sbin/iptables"].linkname == "xtables-nft-multi"
        held = tar.extractfile("usr/local/bin/p")
        assert held and held.read() == b"static"
    assert (found["usr/local/bin/p"].mode, found["tmp"].mode) == (0o755, 0o1777)
