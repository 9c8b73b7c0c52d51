"""A control plane of its own for the tests in this folder, empty at the start and gone at the end."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import cluster, stack
from dev.cluster import Kubectl
from dev.paths import TEST_CLUSTER, locked


@dataclass(frozen=True)
class ControlPlane:
    """How tests reach the control plane."""

    kubeconfig: Path
    operator_kubeconfig: Path
    kubectl: Kubectl


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with locked("test-cluster"):
        with locked("go"):
            cluster.build()
        cluster.down(TEST_CLUSTER)
        cluster.forget(TEST_CLUSTER)
        try:
            cluster.up(TEST_CLUSTER)
            kubectl = Kubectl(TEST_CLUSTER.kubeconfig)
            yield ControlPlane(TEST_CLUSTER.kubeconfig, TEST_CLUSTER.operator_kubeconfig, kubectl)
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
