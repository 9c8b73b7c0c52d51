"""What an API call is in the words of Google's IAM: its service and the permission that names it. Pure.

The table follows the permissions that the reference of each REST method names. What a call needs besides, for
what it asks for, is in `demands`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHORT = {"COMPUTE": "/compute/v1/projects/*", "FUNCTIONS": "/v2/projects/*/locations/*"}
_TABLE = """
GET    COMPUTE                                                    compute.projects.get
GET    COMPUTE/zones                                              compute.zones.list
GET    COMPUTE/zones/*                                            compute.zones.get
GET    COMPUTE/regions                                            compute.regions.list
GET    COMPUTE/regions/*                                          compute.regions.get
GET    COMPUTE/aggregated/machineTypes                            compute.machineTypes.list
GET    COMPUTE/zones/*/machineTypes                               compute.machineTypes.list
GET    COMPUTE/zones/*/machineTypes/*                             compute.machineTypes.get
GET    COMPUTE/global/images/family/*                             compute.images.getFromFamily
GET    COMPUTE/aggregated/instances                               compute.instances.list
GET    COMPUTE/zones/*/instances                                  compute.instances.list
POST   COMPUTE/zones/*/instances                                  compute.instances.create
GET    COMPUTE/zones/*/instances/*                                compute.instances.get
DELETE COMPUTE/zones/*/instances/*                                compute.instances.delete
GET    COMPUTE/zones/*/instances/*/serialPort                     compute.instances.getSerialPortOutput
GET    COMPUTE/zones/*/instances/*/getGuestAttributes             compute.instances.getGuestAttributes
POST   COMPUTE/zones/*/instances/*/start                          compute.instances.start
POST   COMPUTE/zones/*/instances/*/stop                           compute.instances.stop
POST   COMPUTE/zones/*/instances/*/suspend                        compute.instances.suspend
POST   COMPUTE/zones/*/instances/*/resume                         compute.instances.resume
POST   COMPUTE/zones/*/instances/*/reset                          compute.instances.reset
POST   COMPUTE/zones/*/instances/*/setMetadata                    compute.instances.setMetadata
POST   COMPUTE/zones/*/instances/*/setLabels                      compute.instances.setLabels
POST   COMPUTE/zones/*/instances/*/setTags                        compute.instances.setTags
POST   COMPUTE/zones/*/instances/*/setDiskAutoDelete              compute.instances.setDiskAutoDelete
POST   COMPUTE/zones/*/instances/*/setMachineType                 compute.instances.setMachineType
POST   COMPUTE/zones/*/instances/*/addAccessConfig                compute.instances.addAccessConfig
POST   COMPUTE/zones/*/instances/*/deleteAccessConfig             compute.instances.deleteAccessConfig
POST   COMPUTE/zones/*/instances/*/simulateMaintenanceEvent       compute.instances.simulateMaintenanceEvent
GET    COMPUTE/aggregated/addresses                               compute.addresses.list
GET    COMPUTE/regions/*/addresses                                compute.addresses.list
POST   COMPUTE/regions/*/addresses                                compute.addresses.create
GET    COMPUTE/regions/*/addresses/*                              compute.addresses.get
DELETE COMPUTE/regions/*/addresses/*                              compute.addresses.delete
GET    COMPUTE/aggregated/disks                                   compute.disks.list
GET    COMPUTE/zones/*/disks                                      compute.disks.list
GET    COMPUTE/zones/*/disks/*                                    compute.disks.get
DELETE COMPUTE/zones/*/disks/*                                    compute.disks.delete
POST   COMPUTE/zones/*/disks/*/resize                             compute.disks.resize
GET    COMPUTE/global/firewalls                                   compute.firewalls.list
POST   COMPUTE/global/firewalls                                   compute.firewalls.create
GET    COMPUTE/global/firewalls/*                                 compute.firewalls.get
PATCH  COMPUTE/global/firewalls/*                                 compute.firewalls.update
DELETE COMPUTE/global/firewalls/*                                 compute.firewalls.delete
GET    COMPUTE/aggregated/operations                              compute.globalOperations.list
GET    COMPUTE/global/operations                                  compute.globalOperations.list
GET    COMPUTE/global/operations/*                                compute.globalOperations.get
POST   COMPUTE/global/operations/*/wait                           compute.globalOperations.get
GET    COMPUTE/regions/*/operations                               compute.regionOperations.list
GET    COMPUTE/regions/*/operations/*                             compute.regionOperations.get
POST   COMPUTE/regions/*/operations/*/wait                        compute.regionOperations.get
GET    COMPUTE/zones/*/operations                                 compute.zoneOperations.list
GET    COMPUTE/zones/*/operations/*                               compute.zoneOperations.get
POST   COMPUTE/zones/*/operations/*/wait                          compute.zoneOperations.get
GET    /storage/v1/b                                              storage.buckets.list
POST   /storage/v1/b                                              storage.buckets.create
GET    /storage/v1/b/*                                            storage.buckets.get
PATCH  /storage/v1/b/*                                            storage.buckets.update
DELETE /storage/v1/b/*                                            storage.buckets.delete
GET    /storage/v1/b/*/storageLayout                              storage.buckets.get
GET    /storage/v1/b/*/managedFolders                             storage.managedFolders.list
GET    /storage/v1/b/*/iam                                        storage.buckets.getIamPolicy
PUT    /storage/v1/b/*/iam                                        storage.buckets.setIamPolicy
GET    /storage/v1/b/*/o                                          storage.objects.list
GET    /storage/v1/b/*/o/*                                        storage.objects.get
GET    /download/storage/v1/b/*/o/*                               storage.objects.get
PATCH  /storage/v1/b/*/o/*                                        storage.objects.update
DELETE /storage/v1/b/*/o/*                                        storage.objects.delete
POST   /storage/v1/b/*/o/*/copyTo/b/*/o/*                         storage.objects.create
POST   /storage/v1/b/*/o/*/rewriteTo/b/*/o/*                      storage.objects.create
POST   /upload/storage/v1/b/*/o                                   storage.objects.create
PUT    /upload/storage/v1/b/*/o                                   storage.objects.create
DELETE /upload/storage/v1/b/*/o                                   storage.objects.create
GET    /v1/projects/*/topics                                      pubsub.topics.list
PUT    /v1/projects/*/topics/*                                    pubsub.topics.create
GET    /v1/projects/*/topics/*                                    pubsub.topics.get
PATCH  /v1/projects/*/topics/*                                    pubsub.topics.update
DELETE /v1/projects/*/topics/*                                    pubsub.topics.delete
GET    /v1/projects/*/topics/*/subscriptions                      pubsub.topics.get
POST   /v1/projects/*/topics/*:publish                            pubsub.topics.publish
GET    /v1/projects/*/subscriptions                               pubsub.subscriptions.list
PUT    /v1/projects/*/subscriptions/*                             pubsub.subscriptions.create
GET    /v1/projects/*/subscriptions/*                             pubsub.subscriptions.get
PATCH  /v1/projects/*/subscriptions/*                             pubsub.subscriptions.update
DELETE /v1/projects/*/subscriptions/*                             pubsub.subscriptions.delete
POST   /v1/projects/*/subscriptions/*:pull                        pubsub.subscriptions.consume
POST   /v1/projects/*/subscriptions/*:acknowledge                 pubsub.subscriptions.consume
POST   /v1/projects/*/subscriptions/*:modifyAckDeadline           pubsub.subscriptions.consume
POST   /v1/projects/*/subscriptions/*:modifyPushConfig            pubsub.subscriptions.update
GET    /v1/projects/*/locations/*/jobs                            cloudscheduler.jobs.list
POST   /v1/projects/*/locations/*/jobs                            cloudscheduler.jobs.create
GET    /v1/projects/*/locations/*/jobs/*                          cloudscheduler.jobs.get
PATCH  /v1/projects/*/locations/*/jobs/*                          cloudscheduler.jobs.update
DELETE /v1/projects/*/locations/*/jobs/*                          cloudscheduler.jobs.delete
POST   /v1/projects/*/locations/*/jobs/*:pause                    cloudscheduler.jobs.pause
POST   /v1/projects/*/locations/*/jobs/*:resume                   cloudscheduler.jobs.enable
POST   /v1/projects/*/locations/*/jobs/*:run                      cloudscheduler.jobs.run
POST   FUNCTIONS/functions:generateUploadUrl                      cloudfunctions.functions.sourceCodeSet
GET    FUNCTIONS/functions                                        cloudfunctions.functions.list
POST   FUNCTIONS/functions                                        cloudfunctions.functions.create
GET    FUNCTIONS/functions/*                                      cloudfunctions.functions.get
PATCH  FUNCTIONS/functions/*                                      cloudfunctions.functions.update
DELETE FUNCTIONS/functions/*                                      cloudfunctions.functions.delete
GET    FUNCTIONS/operations                                       cloudfunctions.operations.list
GET    FUNCTIONS/operations/*                                     cloudfunctions.operations.get
GET    FUNCTIONS/runtimes                                         cloudfunctions.runtimes.list
GET    /v1/projects/*                                             resourcemanager.projects.get
POST   /v1/projects/*:getIamPolicy                                resourcemanager.projects.getIamPolicy
POST   /v1/projects/*:setIamPolicy                                resourcemanager.projects.setIamPolicy
GET    /v1/projects/*/services                                    serviceusage.services.list
GET    /v1/projects/*/services:batchGet                           serviceusage.services.get
POST   /v1/projects/*/services:batchEnable                        serviceusage.services.enable
GET    /v1/projects/*/services/*                                  serviceusage.services.get
POST   /v1/projects/*/services/*:enable                           serviceusage.services.enable
POST   /v1/projects/*/services/*:disable                          serviceusage.services.disable
GET    /v1/roles/*                                                iam.roles.get
GET    /v1/projects/*/roles                                       iam.roles.list
POST   /v1/projects/*/roles                                       iam.roles.create
GET    /v1/projects/*/roles/*                                     iam.roles.get
PATCH  /v1/projects/*/roles/*                                     iam.roles.update
DELETE /v1/projects/*/roles/*                                     iam.roles.delete
POST   /v1/projects/*/roles/*:undelete                            iam.roles.undelete
GET    /v1/projects/*/serviceAccounts                             iam.serviceAccounts.list
POST   /v1/projects/*/serviceAccounts                             iam.serviceAccounts.create
GET    /v1/projects/*/serviceAccounts/*                           iam.serviceAccounts.get
DELETE /v1/projects/*/serviceAccounts/*                           iam.serviceAccounts.delete
POST   /v1/projects/*/serviceAccounts/*:getIamPolicy              iam.serviceAccounts.getIamPolicy
POST   /v1/projects/*/serviceAccounts/*:setIamPolicy              iam.serviceAccounts.setIamPolicy
"""


# What calls need besides (`demands`), and what roles list that only services elsewhere ask for.
_MORE = """
artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get
artifactregistry.repositories.uploadArtifacts artifactregistry.tags.create artifactregistry.tags.get
artifactregistry.tags.update artifactregistry.versions.get compute.addresses.setLabels compute.addresses.use
compute.addresses.useInternal compute.disks.create compute.disks.setLabels compute.images.useReadOnly
compute.instances.setServiceAccount compute.networks.updatePolicy compute.subnetworks.use
compute.subnetworks.useExternalIp eventarc.events.receiveEvent iam.serviceAccounts.actAs
logging.logEntries.create pubsub.topics.attachSubscription run.routes.invoke
"""
KNOWN = frozenset([*_MORE.split(), *(line.split()[2] for line in _TABLE.strip().splitlines())])
"""Every permission that the local cloud knows."""
_HOSTS = {"resourcemanager": "cloudresourcemanager"}  # where API and permissions have two names


@dataclass(frozen=True)
class Asked:
    """One kind of call. `service` as in SERVICE.googleapis.com."""

    permission: str
    reads: bool

    @property
    def service(self) -> str:
        named = self.permission.partition(".")[0]
        return _HOSTS.get(named, named)


def _rows() -> tuple[tuple[str, re.Pattern[str], Asked], ...]:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    return tuple(
        (
            method,
            re.compile(re.escape(_long(template)).replace(r"\*", "[^/:]+")),
            Asked(permission, reads=method == "GET" or template.endswith("/wait")),
        )
        for method, template, permission in rows
    )


def _long(template: str) -> str:
    for short, long in _SHORT.items():
        template = template.replace(short, long)
    return template


_ROWS = _rows()


def asked(method: str, raw_path: str) -> Asked | None:
    """None for what is no API of Google's; `raw_path` is percent-encoded, without query."""
    method = "GET" if method == "HEAD" else method
    return next((found for kind, path, found in _ROWS if kind == method and path.fullmatch(raw_path)), None)
