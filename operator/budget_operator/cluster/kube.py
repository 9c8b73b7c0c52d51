"""The API server, as `gateways.Kubernetes` and `lease.LeaseStore` want it. The only importer of `kubernetes`.

Every call has a timeout (the client has none by default) and every failure leaves as an `errors.BudgetError`.
Objects travel as plain documents: the custom resource has no generated class, and Leases and Events stay free
of the client's date conversions. Watching lives in `watch`.
"""

import base64
import http.client
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import urllib3.exceptions
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME

from budget_operator.cluster.access import Access
from budget_operator.cluster.lease import LeaseRecord
from budget_operator.cluster.reads import Reads
from budget_operator.core import api, errors, names
from budget_operator.core.gateways import Document, Named

log = logging.getLogger(__name__)

TIMEOUT = (5, 20)  # seconds to connect, and to wait for an answer
AUTHORIZED_SECONDS = 1.0
# A renewal may be a write, a read and a write: with one that hangs, the holder still notices before the Lease
# expires.
LEASE_TIMEOUT = (2, 3)
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500
MERGE_PATCH = "application/merge-patch+json"
EVENT_MESSAGE_LIMIT = 1024
MESSAGE_LIMIT = 500  # of what an answer says
COMPONENT = "budget-operator"

_TOKEN = "BearerToken"  # noqa: S105 (the client's word for this kind of authorization)
_RESOURCE = {"group": api.GROUP, "version": api.VERSION, "plural": api.PLURAL}
_LEASES = {"group": "coordination.k8s.io", "version": "v1", "plural": "leases"}


def connect(pool_size: int) -> client.ApiClient:
    """A client from KUBECONFIG, or from the pod's ServiceAccount where that is not set.

    Raises:
        errors.Unavailable: neither gives a usable configuration.
    """
    configuration = _configuration()
    configuration.connection_pool_maxsize = pool_size
    # urllib3 would repeat a call that times out three times: the timeouts below would not hold.
    configuration.retries = False
    return client.ApiClient(configuration)


def access() -> Access:
    """The same for those who bring a client of their own: read anew each time, as tokens are replaced.

    Raises:
        errors.Unavailable: as `connect`.
    """
    return _access(_configuration())


def _access(configuration: client.Configuration) -> Access:
    return Access(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert or "",
        verify=configuration.verify_ssl,
        authorization=configuration.get_api_key_with_prefix(_TOKEN) or "",
        certificate_file=configuration.cert_file or "",
        key_file=configuration.key_file or "",
    )


def _configuration() -> client.Configuration:
    configuration = client.Configuration()
    try:
        if files := os.environ.get("KUBECONFIG"):
            config.load_kube_config(config_file=files, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration, try_refresh_token=False)
            configuration.refresh_api_key_hook = _read_token  # type: ignore[assignment]  # declared as None
    except (config.ConfigException, OSError) as error:
        raise errors.Unavailable(
            f"no access to Kubernetes: set KUBECONFIG or run in a pod ({error})"
        ) from error
    return configuration


def _read_token(configuration: client.Configuration) -> None:
    """Whenever the client asks: the kubelet replaces the file. The client alone would look once a minute."""
    token = Path(SERVICE_TOKEN_FILENAME).read_text().strip()
    configuration.api_key[_TOKEN] = f"Bearer {token}"


def translate(error: ApiException, what: str) -> errors.BudgetError:
    """The operator's word for an HTTP error of the API server, with the server's own message."""
    detail = f"{what}: the Kubernetes API answered {error.status} {error.reason}"
    if error.status == 404:
        return errors.NotFound(detail)
    if error.status == 409:
        return errors.PreconditionFailed(detail)
    if said := _message(error.body):
        detail = f"{detail}: {said}"
    if error.status in (401, 403):
        # In the message itself: where nothing can be written to a status, the log is all there is.
        return errors.PermissionDenied(f"{detail}; {_REMEDIES[error.status]}", remedy="")
    if error.status == 429:
        return errors.RateLimited(detail)
    if error.status in (400, 422):
        return errors.BudgetError(detail)
    return errors.Unavailable(detail)


_REMEDIES = {
    401: "check that the operator's ServiceAccount exists and that its token is renewed",
    403: "check the operator's ClusterRole and Role, and their bindings",
}


def _message(body: object) -> str:
    """What an answer of the API server says for people; one that is not its own says nothing."""
    try:
        status = json.loads(body) if isinstance(body, str | bytes) else None
    except ValueError:
        return ""
    said = status.get("message", "") if isinstance(status, dict) else ""
    return str(said)[:MESSAGE_LIMIT]


def _call(what: str, function: Callable[..., Any], **arguments: Any) -> Any:
    with _translated(what):
        return function(**{"_request_timeout": TIMEOUT, **arguments})


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turns what a client raises into one of ours; `what` names the call."""
    try:
        yield
    except ApiException as error:
        raise translate(error, what) from error
    except (FileNotFoundError, PermissionError, config.ConfigException) as error:
        raise errors.Unavailable(f"{what}: the credentials cannot be read: {error}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise errors.Unavailable(f"{what}: the Kubernetes API does not answer ({_cause(error)})") from error


def _cause(error: BaseException) -> str:
    """The system's word at the bottom of a failure's chain, or else the failure's name; no URL."""
    links = [error]
    while cause := links[-1].__cause__ or links[-1].__context__:
        links.append(cause)
    words = [link.strerror for link in links if isinstance(link, OSError) and link.strerror]
    return words[-1] if words else type(error).__name__


def _look_up(what: str, function: Callable[..., Any], **arguments: Any) -> Any | None:
    try:
        return _call(what, function, **arguments)
    except errors.NotFound:
        return None


def _place(document: Document) -> dict[str, str]:
    metadata = document["metadata"]
    return {"namespace": metadata["namespace"], "name": metadata["name"]}


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (data or {}).items()}


def owner_reference(document: Document) -> dict[str, Any]:
    """What makes the garbage collector delete a dependent together with the BudgetDeployment."""
    return {
        "apiVersion": f"{api.GROUP}/{api.VERSION}",
        "kind": api.KIND,
        "name": document["metadata"]["name"],
        "uid": document["metadata"]["uid"],
        "controller": True,
    }


def _is_going(dependent: Document, document: Document) -> bool:
    """Whether it is being deleted, or will be: it was made for a predecessor of the document."""
    metadata = dependent["metadata"]
    owners = {
        reference["uid"]
        for reference in metadata.get("ownerReferences", ())
        if reference["kind"] == api.KIND and reference["apiVersion"].startswith(f"{api.GROUP}/")
    }
    foreign = bool(owners) and document["metadata"]["uid"] not in owners
    return foreign or metadata.get("deletionTimestamp") is not None


class Kube:
    """One shared client; safe to use from all workers."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._api = api_client
        self._reads = Reads(_access(api_client.configuration))
        self._authorized = 0.0, ""
        self._objects = client.CustomObjectsApi(api_client)

    def cluster(self) -> str:
        found = self._get("get namespace kube-system", "/api/v1/namespaces/kube-system")
        uid: str = found["metadata"]["uid"]
        return uid

    def deployment(self, namespace: str, name: str) -> Document | None:
        what = f"get budgetdeployment {namespace}/{name}"
        found: Document | None = _look_up(
            what, self._objects.get_namespaced_custom_object, **_RESOURCE, namespace=namespace, name=name
        )
        return found

    def all_deployments(self) -> tuple[Document, ...]:
        """A page at a time, and without who manages which field: of thousands little is held at once."""
        found: list[Document] = []
        path, more = f"/apis/{api.GROUP}/{api.VERSION}/{api.PLURAL}", ""
        while True:
            query = [("limit", str(PAGE)), *([("continue", more)] if more else [])]
            page = self._get("list budgetdeployments", path, query, METADATA_ONLY)
            for item in page["items"] or ():  # of none, the list of metadata has null
                item["metadata"].pop("managedFields", None)
                found.append(item)
            more = page["metadata"].get("continue", "")
            if not more:
                return tuple(found)

    def _get(self, what: str, path: str, query: Sequence[tuple[str, str]] = (), accept: str = JSON) -> Any:
        target = f"{path}?{urlencode(query)}" if query else path
        with _translated(what):
            headers = {"Accept": accept, **self._authorization()}
            status, body = self._reads.get(target, headers, TIMEOUT)
            if not 200 <= status < 300:
                raise ApiException(
                    status, http.client.responses.get(status, ""), body=body.decode(errors="replace")
                )
        return json.loads(body)

    def _authorization(self) -> Mapping[str, str]:
        """Looked up once a second, not for each of the many reads: the client makes it anew each time."""
        until, text = self._authorized
        if (now := time.monotonic()) >= until:
            text = self._api.configuration.get_api_key_with_prefix(_TOKEN) or ""
            self._authorized = now + AUTHORIZED_SECONDS, text
        return {"Authorization": text} if text else {}

    def _core(self, what: str, method: str, path: str, body: Document | None, kind: str = JSON) -> Document:
        """A change by the core API. Its generated class costs 16 MiB of models that nothing here uses."""
        with _translated(what):
            headers = {"Accept": JSON, "Content-Type": kind}
            asked = self._api.param_serialize(
                method, f"/api/v1/namespaces/{path}", header_params=headers, body=body, auth_settings=[_TOKEN]
            )
            answer = self._api.call_api(*asked, _request_timeout=TIMEOUT)
            answer.read()
            made: Any = self._api.response_deserialize(answer, {"2XX": "object"}).data
            return dict(made)

    def add_finalizer(self, document: Document) -> Document:
        present = list(document["metadata"].get("finalizers", ()))
        return self._set_finalizers(document, [*present, api.FINALIZER])

    def remove_finalizer(self, document: Document) -> None:
        rest = [name for name in document["metadata"].get("finalizers", ()) if name != api.FINALIZER]
        try:
            self._set_finalizers(document, rest)
        except errors.NotFound:
            return

    def _set_finalizers(self, document: Document, finalizers: list[str]) -> Document:
        version = document["metadata"]["resourceVersion"]
        patched: Document = _call(
            "patch finalizers",
            self._objects.patch_namespaced_custom_object,
            **_RESOURCE,
            **_place(document),
            body={"metadata": {"resourceVersion": version, "finalizers": finalizers}},
            _content_type=MERGE_PATCH,
        )
        return patched

    def patch_status(self, document: Document, patch: Document) -> Document:
        version = document["metadata"]["resourceVersion"]
        patched: Document = _call(
            "patch status",
            self._objects.patch_namespaced_custom_object_status,
            **_RESOURCE,
            **_place(document),
            body={"metadata": {"resourceVersion": version}, "status": patch},
            _content_type=MERGE_PATCH,
        )
        return patched

    def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self._named("secret", namespace, name)
        return None if found is None else _decoded(found.get("data"))

    def many_secrets(self, names: Sequence[Named]) -> Mapping[Named, Mapping[str, bytes] | None]:
        """Each is asked for by its name, one request behind the other."""
        targets = [f"/api/v1/namespaces/{namespace}/secrets/{name}" for namespace, name in names]
        with _translated(f"get {len(names)} secrets"):
            headers = {"Accept": JSON, **self._authorization()}
            answers = self._reads.get_all(targets, headers, TIMEOUT)
        found: dict[Named, Mapping[str, bytes] | None] = {}
        for name, (status, body) in zip(names, answers, strict=False):
            if status == 200:
                found[name] = _decoded(json.loads(body).get("data"))
            elif status == 404:
                found[name] = None
        return found

    def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self._named("configmap", namespace, name)
        if found is None:
            return None
        text = {key: value.encode() for key, value in found.get("data", {}).items()}
        return {**text, **_decoded(found.get("binaryData"))}

    def _named(self, kind: str, namespace: str, name: str) -> Document | None:
        try:
            found: Document = self._get(
                f"get {kind} {namespace}/{name}", f"/api/v1/namespaces/{namespace}/{kind}s/{name}"
            )
        except errors.NotFound:
            return None
        return found

    def ensure_secret(
        self, namespace: str, name: str, data: Mapping[str, bytes], owner: Document | None
    ) -> Mapping[str, bytes]:
        present = self._named("secret", namespace, name)
        if present is not None:
            if owner is not None and _is_going(present, owner):
                raise errors.ResourceNotReady(
                    f"Secret {namespace}/{name} belongs to a deployment that was deleted: waits until it is "
                    f"gone with it"
                )
            return _decoded(present.get("data"))
        metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/managed-by": COMPONENT}}
        if owner is not None:
            metadata["ownerReferences"] = [owner_reference(owner)]
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}
        created = self._core(f"create secret {namespace}/{name}", "POST", f"{namespace}/secrets", body)
        return _decoded(created.get("data"))

    def delete_secret(self, namespace: str, name: str) -> None:
        with suppress(errors.NotFound):
            self._core(f"delete secret {namespace}/{name}", "DELETE", f"{namespace}/secrets/{name}", None)

    def event(
        self, document: Document, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        try:
            self._record(document, kind, reason, message[:EVENT_MESSAGE_LIMIT])
        except errors.BudgetError as error:
            log.warning("an event was not recorded: %s", error.message)

    def _record(self, document: Document, kind: str, reason: str, message: str) -> None:
        """Repeats of the same event raise its count, as the apiserver's other clients do it."""
        place = _place(document)
        event = names.digest(document["metadata"]["uid"], kind, reason, message, length=16)
        name = f"{place['name']}.{event}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"{place['namespace']}/events"
        seen = self._named("event", place["namespace"], name)
        if seen is not None:
            again = {"count": seen.get("count", 1) + 1, "lastTimestamp": now}
            self._core("patch event", "PATCH", f"{path}/{name}", again, MERGE_PATCH)
            return
        body = {
            "metadata": {"name": name, "namespace": place["namespace"]},
            "involvedObject": {
                "apiVersion": f"{api.GROUP}/{api.VERSION}",
                "kind": api.KIND,
                **place,
                "uid": document["metadata"]["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT},
        }
        self._core("create event", "POST", path, body)


class KubeLease:
    """The operator's Lease in its own namespace."""

    def __init__(self, api_client: client.ApiClient, namespace: str, name: str = COMPONENT) -> None:
        self._objects = client.CustomObjectsApi(api_client)
        self._place = {**_LEASES, "namespace": namespace, "_request_timeout": LEASE_TIMEOUT}
        self._name = name

    def read_lease(self) -> LeaseRecord:
        found = _look_up(
            "get lease", self._objects.get_namespaced_custom_object, **self._place, name=self._name
        )
        return LeaseRecord() if found is None else _lease_record(found)

    def write_lease(self, record: LeaseRecord) -> LeaseRecord:
        """Raises:
        PreconditionFailed, AlreadyExists: somebody else wrote it meanwhile.
        NotFound: it had been deleted meanwhile; this write has made it anew.
        """
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": record.duration_seconds,
                "leaseTransitions": record.transitions,
                "renewTime": record.renewed_at,
            },
        }
        if not record.version:
            create = self._objects.create_namespaced_custom_object
            return _lease_record(_call("create lease", create, **self._place, body=body))
        body["metadata"] = {"name": self._name, "resourceVersion": record.version}
        replace = self._objects.replace_namespaced_custom_object
        renewed = _call("renew lease", replace, **self._place, name=self._name, body=body)
        if renewed is None:  # 201, which the client has no model for: an update of a Lease creates it, too
            raise errors.NotFound("renew lease: it had been deleted")
        return _lease_record(renewed)


def _lease_record(document: Document) -> LeaseRecord:
    spec = document.get("spec", {})
    return LeaseRecord(
        holder=spec.get("holderIdentity", ""),
        duration_seconds=spec.get("leaseDurationSeconds", 0),
        transitions=spec.get("leaseTransitions", 0),
        renewed_at=spec.get("renewTime", ""),
        version=document["metadata"]["resourceVersion"],
    )
