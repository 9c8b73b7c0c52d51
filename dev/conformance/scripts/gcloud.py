"""gcloud, the strictest client: what an administrator types."""

import os
import tempfile
from pathlib import Path

from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT, REGION, ZONE
from dev.conformance.clients import Gcloud, GcloudFailed
from dev.conformance.script import Script, same
from dev.conformance.server import until

AT = f"--zone={ZONE}"
THERE = f"--region={REGION}"


def run(script: Script) -> None:
    """All five services."""
    with tempfile.TemporaryDirectory(prefix="gcloud-") as place:
        own = clients.gcloud_environment(script.cloud.url, PROJECT, Path(place) / "config")
        with clients.warm_gcloud_environment(os.environ | own) as environment:
            _services(script, Gcloud(environment), Path(place))


def _services(script: Script, gcloud: Gcloud, place: Path) -> None:
    _instances(script, gcloud)
    _instance_changes(script, gcloud)
    _network(script, gcloud)
    _bad_days(script, gcloud)
    _storage(script, gcloud, place)
    _pubsub(script, gcloud)
    _scheduler(script, gcloud)
    _functions(script, gcloud, place)


def _instances(script: Script, gcloud: Gcloud) -> None:
    with script.call("compute instances create"):
        [made] = gcloud(
            *("compute", "instances", "create", "g-1", AT, "--machine-type=e2-medium"),
            *("--provisioning-model=SPOT", "--instance-termination-action=STOP"),
            *("--image-family=cos-stable", "--image-project=cos-cloud", "--labels=a=b"),
            *("--metadata=budget-config={}", "--tags=budget-abc"),
        )
        same(made["status"], "RUNNING")
    with script.call("compute instances list"):
        found = gcloud("compute", "instances", "list", "--filter=labels.a=b")
        same([each["name"] for each in found], ["g-1"])
    with script.call("compute instances stop"):
        gcloud("compute", "instances", "stop", "g-1", AT)
    with script.call("compute instances describe"):
        same(gcloud("compute", "instances", "describe", "g-1", AT)["status"], "TERMINATED")
    with script.call("compute instances set-machine-type"):
        gcloud("compute", "instances", "set-machine-type", "g-1", AT, "--machine-type=e2-small")
    with script.call("compute instances start"):
        gcloud("compute", "instances", "start", "g-1", AT)
    with script.call("compute disks resize"):
        gcloud("compute", "disks", "resize", "g-1", AT, "--size=30GB")
        same(gcloud("compute", "disks", "describe", "g-1", AT)["sizeGb"], "30")
    with script.call("compute instances suspend"):
        gcloud("compute", "instances", "suspend", "g-1", AT)
    with script.call("compute instances resume"):
        gcloud("compute", "instances", "resume", "g-1", AT)
    with script.call("compute instances reset"):
        gcloud("compute", "instances", "reset", "g-1", AT)


def _instance_changes(script: Script, gcloud: Gcloud) -> None:
    with script.call("compute instances add-metadata"):
        gcloud("compute", "instances", "add-metadata", "g-1", AT, "--metadata=more=1")
    with script.call("compute instances remove-metadata"):
        gcloud("compute", "instances", "remove-metadata", "g-1", AT, "--keys=more")
    with script.call("compute instances add-labels"):
        gcloud("compute", "instances", "add-labels", "g-1", AT, "--labels=c=d")
        same(gcloud("compute", "instances", "describe", "g-1", AT)["labels"], {"a": "b", "c": "d"})
    with script.call("compute instances get-serial-port-output"):
        found = gcloud("compute", "instances", "get-serial-port-output", "g-1", AT)
        same("booted" in found["contents"], True)
    with script.call("compute instances simulate-maintenance-event"):
        gcloud("compute", "instances", "simulate-maintenance-event", "g-1", AT)
    with script.call("compute operations list"):
        preempted = "--filter=operationType=compute.instances.preempted"
        same([each["user"] for each in gcloud("compute", "operations", "list", preempted)], ["system"])
    with script.call("compute operations describe"):
        [name] = [each["name"] for each in gcloud("compute", "operations", "list", preempted)]
        same(gcloud("compute", "operations", "describe", name, AT)["status"], "DONE")
    with script.call("compute instances delete"):
        gcloud("compute", "instances", "delete", "g-1", AT)
        same(gcloud("compute", "instances", "list"), [])


def _network(script: Script, gcloud: Gcloud) -> None:
    with script.call("compute addresses create"):
        gcloud("compute", "addresses", "create", "ip-g", THERE)
    with script.call("compute addresses list"):
        same([each["status"] for each in gcloud("compute", "addresses", "list")], ["RESERVED"])
    with script.call("compute addresses describe"):
        same(gcloud("compute", "addresses", "describe", "ip-g", THERE)["addressType"], "EXTERNAL")
    with script.call("compute addresses delete"):
        gcloud("compute", "addresses", "delete", "ip-g", THERE)
    with script.call("compute firewall-rules create"):
        allow = "--allow=tcp:80,tcp:443"
        gcloud("compute", "firewall-rules", "create", "fw-g", allow, "--target-tags=budget-abc")
    with script.call("compute firewall-rules update"):
        gcloud("compute", "firewall-rules", "update", "fw-g", "--allow=tcp:443")
    with script.call("compute firewall-rules list"):
        [rule] = gcloud("compute", "firewall-rules", "list")
        same(rule["allowed"], [{"IPProtocol": "tcp", "ports": ["443"]}])
    with script.call("compute firewall-rules describe"):
        same(gcloud("compute", "firewall-rules", "describe", "fw-g")["targetTags"], ["budget-abc"])
    with script.call("compute firewall-rules delete"):
        gcloud("compute", "firewall-rules", "delete", "fw-g")
    for kind in ("zones", "regions", "machine-types"):
        with script.call(f"compute {kind} list"):
            same(len(gcloud("compute", kind, "list")) > 0, True)


def _bad_days(script: Script, gcloud: Gcloud) -> None:
    make = (
        "compute",
        "instances",
        "create",
        "g-2",
        AT,
        "--image-family=cos-stable",
        "--image-project=cos-cloud",
    )
    with (
        script.cloud.fault(kind="stock-out", zone=ZONE),
        script.refused(
            "compute instances create in a sold-out zone",
            GcloudFailed,
            saying="ZONE_RESOURCE_POOL_EXHAUSTED",
        ),
    ):
        gcloud(*make)
    with script.refused("compute instances describe of none", GcloudFailed, saying="was not found"):
        gcloud("compute", "instances", "describe", "g-2", AT)


def _storage(script: Script, gcloud: Gcloud, place: Path) -> None:
    content = os.urandom(300_000)
    (place / "in").write_bytes(content)
    with script.call("storage buckets create"):
        gcloud("storage", "buckets", "create", "gs://bucket-g", f"--location={REGION}")
    with script.call("storage buckets list"):
        same([each["name"] for each in gcloud("storage", "buckets", "list")], ["bucket-g"])
    with script.call("storage cp to a bucket"):
        gcloud("storage", "cp", str(place / "in"), "gs://bucket-g/a/b c", form="")
    with script.call("storage ls"):
        listed = gcloud("storage", "ls", "-r", "gs://bucket-g/**", form="")
        same(listed.split("\n")[0], "gs://bucket-g/a/b c")
    with script.call("storage cp from a bucket"):
        gcloud("storage", "cp", "gs://bucket-g/a/b c", str(place / "out"), form="")
        same((place / "out").read_bytes() == content, True)
    with script.call("storage cat"):
        (place / "text").write_text("hello")
        gcloud("storage", "cp", str(place / "text"), "gs://bucket-g/text", form="")
        same(gcloud("storage", "cat", "gs://bucket-g/text", form=""), "hello")
    with script.call("storage rm"):
        gcloud("storage", "rm", "-r", "gs://bucket-g", form="")
        same(gcloud("storage", "buckets", "list"), [])


def _pubsub(script: Script, gcloud: Gcloud) -> None:
    with script.call("pubsub topics create"):
        gcloud("pubsub", "topics", "create", "topic-g", "--labels=a=b")
    with script.call("pubsub topics list"):
        same([each["labels"] for each in gcloud("pubsub", "topics", "list")], [{"a": "b"}])
    with script.call("pubsub subscriptions create"):
        gcloud("pubsub", "subscriptions", "create", "sub-g", "--topic=topic-g", "--ack-deadline=20")
    with script.call("pubsub subscriptions list"):
        same([each["ackDeadlineSeconds"] for each in gcloud("pubsub", "subscriptions", "list")], [20])
    with script.call("pubsub topics publish"):
        gcloud("pubsub", "topics", "publish", "topic-g", "--message=hi", "--attribute=x=y")
    with script.call("pubsub subscriptions pull"):
        (pulled,) = gcloud("pubsub", "subscriptions", "pull", "sub-g", "--auto-ack")
        same((pulled["message"]["data"], pulled["message"]["attributes"]), ("aGk=", {"x": "y"}))


def _scheduler(script: Script, gcloud: Gcloud) -> None:
    job = ["job-g", f"--location={REGION}"]
    with script.call("scheduler jobs create pubsub"):
        target = ["--topic=topic-g", "--message-body=tick"]
        made = gcloud("scheduler", "jobs", "create", "pubsub", *job, "--schedule=0 0 1 1 *", *target)
        same(made["state"], "ENABLED")
    with script.call("scheduler jobs run"):
        gcloud("scheduler", "jobs", "run", *job)
        (pulled,) = gcloud("pubsub", "subscriptions", "pull", "sub-g", "--auto-ack")
        same(pulled["message"]["data"], "dGljaw==")
    with script.call("scheduler jobs update pubsub"):
        gcloud("scheduler", "jobs", "update", "pubsub", *job, "--schedule=*/5 * * * *")
    with script.call("scheduler jobs pause"):
        gcloud("scheduler", "jobs", "pause", *job)
    with script.call("scheduler jobs describe"):
        found = gcloud("scheduler", "jobs", "describe", *job)
        same((found["schedule"], found["state"]), ("*/5 * * * *", "PAUSED"))
    with script.call("scheduler jobs resume"):
        gcloud("scheduler", "jobs", "resume", *job)
    with script.call("scheduler jobs list and delete"):
        same(len(gcloud("scheduler", "jobs", "list", f"--location={REGION}")), 1)
        gcloud("scheduler", "jobs", "delete", *job)
        same(gcloud("scheduler", "jobs", "list", f"--location={REGION}"), [])
    with script.call("pubsub subscriptions delete"):
        gcloud("pubsub", "subscriptions", "delete", "sub-g")


def _functions(script: Script, gcloud: Gcloud, place: Path) -> None:
    source = place / "source"
    source.mkdir()
    (source / "main.py").write_text(bodies.FUNCTION)
    (source / "requirements.txt").write_text(bodies.REQUIREMENTS)
    with script.call("functions deploy --gen2 --trigger-topic"):
        what = ["--runtime=python312", "--entry-point=main", f"--source={source}", "--trigger-topic=topic-g"]
        made = gcloud("functions", "deploy", "fn-g", "--gen2", THERE, *what, "--set-env-vars=A=b")
        same((made["state"], made["serviceConfig"]["environmentVariables"]), ("ACTIVE", {"A": "b"}))
    with script.call("a published message reaches the function"):
        gcloud("pubsub", "topics", "publish", "topic-g", "--message=hi")
        log = script.cloud.home / "log" / "function-fn-g.log"
        until(lambda: "seen google.cloud.pubsub.topic.v1.messagePublished" in log.read_text(), "the event")
    with script.call("functions describe"):
        same(gcloud("functions", "describe", "fn-g", "--gen2", THERE)["state"], "ACTIVE")
    with script.call("functions list --v2"):
        same([each["state"] for each in gcloud("functions", "list", "--v2")], ["ACTIVE"])
    with script.call("functions delete"):
        gcloud("functions", "delete", "fn-g", "--gen2", THERE)
        same(gcloud("functions", "list", "--v2"), [])
    with script.call("pubsub topics delete"):
        gcloud("pubsub", "topics", "delete", "topic-g")
