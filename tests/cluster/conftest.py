"""A control plane of its own for the tests in this folder, empty at the start and gone at the end.

For the tests of the operator's process there is a `world` as well: the local cloud with simulated VMs, and
operators that run as their ServiceAccount.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import cluster, stack
from dev.cluster import Kubectl
from dev.paths import TEST_CLUSTER, locked
from tests.cluster.operators import Operator
from tests.cluster.world import World


@dataclass(frozen=True)
class ControlPlane:
    """How tests reach the control plane."""

    kubeconfig: Path
    operator_kubeconfig: Path
    authority: Path
    kubectl: Kubectl


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with locked("test-cluster"):
        cluster.CONTROL_PLANE.build()
        cluster.down(TEST_CLUSTER)
        cluster.forget(TEST_CLUSTER)
        try:
            cluster.up(TEST_CLUSTER)
            yield ControlPlane(
                TEST_CLUSTER.kubeconfig,
                TEST_CLUSTER.operator_kubeconfig,
                TEST_CLUSTER.cluster / "pki" / "apiserver.crt",
                Kubectl(TEST_CLUSTER.kubeconfig),
            )
        finally:
            cluster.down(TEST_CLUSTER)
            cluster.forget(TEST_CLUSTER)


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> ControlPlane:
    """With the custom resource."""
    stack.apply_crd(control_plane.kubectl)
    return control_plane


@pytest.fixture(scope="session")
def rbac(crd: ControlPlane) -> ControlPlane:
    """With the operator's ServiceAccount, its rights and its kubeconfig."""
    stack.apply_rbac(crd.kubectl, TEST_CLUSTER)
    return crd


@pytest.fixture(scope="session")
def world(rbac: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With an empty local cloud whose VMs are simulated: nothing answers HTTPS, so Ready never comes."""
    port = TEST_CLUSTER.port("localcloud")
    made = World(rbac.kubectl, rbac.operator_kubeconfig, tmp_path_factory.mktemp("localcloud"), port)
    try:
        made.start_cloud()
        yield made
    finally:
        made.process.stop()


@pytest.fixture(scope="module")
def operator(world: World) -> Iterator[Operator]:
    """The operator, running and active."""
    made = Operator(world)
    try:
        made.start()
        made.until_active()
        yield made
    finally:
        made.process.stop()
