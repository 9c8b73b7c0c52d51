"""The real clients against Compute: google-cloud-compute, google-api-python-client and gcloud."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

P, Z = "p1", "us-central1-a"


@pytest.fixture
def wait(client_options: Any) -> Any:
    from google.cloud import compute_v1

    zone_operations = compute_v1.ZoneOperationsClient(**client_options)

    def until_done(operation: Any) -> Any:
        while operation.status != compute_v1.Operation.Status.DONE:
            operation = zone_operations.wait(project=P, zone=Z, operation=operation.name)
        return operation

    return until_done


def test_google_cloud_compute(cloud: Any, client_options: Any, wait: Any, spot_body: Any) -> None:
    from google.api_core import exceptions
    from google.cloud import compute_v1

    instances = compute_v1.InstancesClient(**client_options)
    resource = compute_v1.Instance.from_json(json.dumps(spot_body()))
    done = wait(instances.insert_unary(project=P, zone=Z, instance_resource=resource))
    assert not done.error.errors
    found = instances.get(project=P, zone=Z, instance="vm1")
    assert found.status == "RUNNING"
    assert found.network_interfaces[0].access_configs[0].nat_i_p

    metadata = compute_v1.Metadata(
        fingerprint=found.metadata.fingerprint, items=[compute_v1.Items(key="a", value="b")]
    )
    wait(instances.set_metadata_unary(project=P, zone=Z, instance="vm1", metadata_resource=metadata))
    with pytest.raises(exceptions.PreconditionFailed):
        instances.set_metadata_unary(project=P, zone=Z, instance="vm1", metadata_resource=metadata)

    wait(instances.stop_unary(project=P, zone=Z, instance="vm1"))
    cloud.control("POST", "/stock-outs", {"zone": Z})
    failed = wait(instances.start_unary(project=P, zone=Z, instance="vm1"))
    assert [error.code for error in failed.error.errors] == ["ZONE_RESOURCE_POOL_EXHAUSTED"]
    assert failed.http_error_status_code == 503

    request = compute_v1.AggregatedListInstancesRequest(project=P, filter="labels.budgetml-installation=abc")
    scopes = dict(instances.aggregated_list(request=request))
    assert [vm.name for vm in scopes[f"zones/{Z}"].instances] == ["vm1"]
    with pytest.raises(exceptions.NotFound):
        instances.get(project=P, zone=Z, instance="nope")
    wait(instances.delete_unary(project=P, zone=Z, instance="vm1"))


def test_google_cloud_compute_addresses_and_firewalls(client_options: Any) -> None:
    from google.api_core import exceptions
    from google.cloud import compute_v1

    addresses = compute_v1.AddressesClient(**client_options)
    regions = compute_v1.RegionOperationsClient(**client_options)
    resource = compute_v1.Address(name="ip1", labels={"a": "b"})
    operation = addresses.insert_unary(project=P, region="us-central1", address_resource=resource)
    while operation.status != compute_v1.Operation.Status.DONE:
        operation = regions.wait(project=P, region="us-central1", operation=operation.name)
    [found] = addresses.list(
        request=compute_v1.ListAddressesRequest(project=P, region="us-central1", filter="labels.a=b")
    )
    assert (found.status, dict(found.labels)) == ("RESERVED", {"a": "b"})
    with pytest.raises(exceptions.Conflict):
        addresses.insert_unary(project=P, region="us-central1", address_resource=resource)

    firewalls = compute_v1.FirewallsClient(**client_options)
    everywhere = compute_v1.GlobalOperationsClient(**client_options)
    rule = compute_v1.Firewall(
        name="fw",
        allowed=[compute_v1.Allowed(I_p_protocol="tcp", ports=["443"])],
        network="global/networks/default",
    )
    operation = firewalls.insert_unary(project=P, firewall_resource=rule)
    while operation.status != compute_v1.Operation.Status.DONE:
        operation = everywhere.wait(project=P, operation=operation.name)
    assert firewalls.get(project=P, firewall="fw").allowed[0].ports == ["443"]


def test_google_api_python_client(discovered: Any, spot_body: Any) -> None:
    compute = discovered("compute.v1")
    operation = compute.instances().insert(project=P, zone=Z, body=spot_body()).execute()
    while operation["status"] != "DONE":
        operation = compute.zoneOperations().wait(project=P, zone=Z, operation=operation["name"]).execute()
    assert compute.instances().get(project=P, zone=Z, instance="vm1").execute()["status"] == "RUNNING"
    listed = compute.instances().aggregatedList(project=P).execute()["items"]
    assert listed[f"zones/{Z}"]["instances"][0]["name"] == "vm1"
    output = compute.instances().getSerialPortOutput(project=P, zone=Z, instance="vm1").execute()
    assert "booted" in output["contents"]


@pytest.fixture
def gcloud(gcloud_environment: dict[str, str]) -> Any:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")

    def run(*words: str) -> Any:
        done = subprocess.run(
            ["gcloud", "compute", *words, "--format=json"],
            check=False,
            env=os.environ | gcloud_environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    return run


def test_gcloud_instances(gcloud: Any) -> None:
    zone = f"--zone={Z}"
    [made] = gcloud(
        *("instances", "create", "vm1", zone, "--machine-type=e2-medium", "--provisioning-model=SPOT"),
        *("--instance-termination-action=STOP", "--image-family=cos-stable", "--image-project=cos-cloud"),
        *("--labels=a=b", "--metadata=budget-config={}", "--tags=budget-abc"),
    )
    assert made["status"] == "RUNNING"
    assert [vm["name"] for vm in gcloud("instances", "list", "--filter=labels.a=b")] == ["vm1"]
    gcloud("instances", "stop", "vm1", zone)
    assert gcloud("instances", "describe", "vm1", zone)["status"] == "TERMINATED"
    gcloud("instances", "start", "vm1", zone)
    gcloud("instances", "add-metadata", "vm1", zone, "--metadata=more=1")
    gcloud("instances", "add-labels", "vm1", zone, "--labels=c=d")
    described = gcloud("instances", "describe", "vm1", zone)
    assert {item["key"] for item in described["metadata"]["items"]} == {"budget-config", "more"}
    assert described["labels"] == {"a": "b", "c": "d"}
    assert "booted" in gcloud("instances", "get-serial-port-output", "vm1", zone)["contents"]
    gcloud("instances", "simulate-maintenance-event", "vm1", zone)
    preempted = "--filter=operationType=compute.instances.preempted"
    assert [op["user"] for op in gcloud("operations", "list", preempted)] == ["system"]
    gcloud("instances", "delete", "vm1", zone)
    assert gcloud("instances", "list") == []


def test_gcloud_addresses_and_firewall_rules(gcloud: Any) -> None:
    region = "--region=us-central1"
    gcloud("addresses", "create", "ip1", region)
    assert [ip["status"] for ip in gcloud("addresses", "list")] == ["RESERVED"]
    gcloud("addresses", "delete", "ip1", region)
    assert gcloud("addresses", "list") == []
    gcloud("firewall-rules", "create", "fw", "--allow=tcp:80,tcp:443", "--target-tags=budget-abc")
    gcloud("firewall-rules", "update", "fw", "--allow=tcp:443")
    [rule] = gcloud("firewall-rules", "list")
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["443"]}]
    gcloud("firewall-rules", "delete", "fw")
    assert gcloud("firewall-rules", "list") == []
