"""What a spec refers to, read from Kubernetes: code, environment, login and the deployment's key.

Everything missing is a `ReferenceMissing` that names the field, so that the deployment waits for it; what is
there but unusable is an `InvalidSpec`. No message ever holds a value.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import astuple

from budget_operator.core import status as statuses
from budget_operator.core.api import RESERVED_ENV, EnvVar, Spec
from budget_operator.core.artifact import KEY_BYTES, Login, Source, sealed_login
from budget_operator.core.copied import Address, Copied, select
from budget_operator.core.errors import InvalidSpec, ReferenceMissing
from budget_operator.core.gateways import Document, Kubernetes, References, Storage
from budget_operator.core.names import METADATA_CONFIG, METADATA_KEY, Owner
from budget_operator.core.observed import Instance, Listed
from budget_operator.core.requirements import read_requirements
from budget_operator.core.sources import check_code, check_file_names, module_file

KEY_ENTRY = "key"
LOGIN_KEYS = ("username", "password", "token")
LOGIN_SUFFIX = "-login"
DEFAULT_USERNAME = "budget"
_RANDOM_BYTES = 24
_NAME_LIMIT = 253


def read_source(
    kube: References,
    document: Document,
    spec: Spec,
    former: Callable[[], Login | None],
    listed: Callable[[Address], tuple[Listed, ...]],
) -> Source:
    """Read and check everything a revision is made of; makes the login Secret if the spec names none.

    `former` looks up the login that callers of this deployment know already, `listed` what lies in a bucket.

    Raises:
        ReferenceMissing: a ConfigMap, Secret or key is not there.
        InvalidSpec: something is there but cannot work.
        ResourceNotReady: the login Secret of a predecessor is still there.
    """
    namespace = document["metadata"]["namespace"]
    files = _files(kube, namespace, spec)
    requirements = read_requirements(spec.requirements, files)
    if files is not None:
        check_code(spec, files)
    env = {
        variable.name: _value(kube, namespace, f"spec.env[{index}]", variable)
        for index, variable in enumerate(spec.env)
    }
    login = _login(kube, document, spec, former)
    return Source(
        files or {}, requirements.lines, {**env, **requirements.logins}, login, _copied(spec, listed)
    )


def login_secret(name: str, spec: Spec) -> str:
    """Name of the Secret with the endpoint's login."""
    return spec.auth.secret_name or f"{name[: _NAME_LIMIT - len(LOGIN_SUFFIX)].rstrip('-.')}{LOGIN_SUFFIX}"


def key_secret(owner: Owner) -> str:
    """Name of the Secret, in the operator's namespace, with the deployment's key."""
    return f"{owner.cloud_name}-key"


def held_key(kube: Kubernetes, namespace: str, owner: Owner) -> bytes | None:
    """The deployment's key, if its Secret is there.

    Raises:
        InvalidSpec: the Secret holds something else.
    """
    held = kube.secret(namespace, key_secret(owner))
    return None if held is None else _checked_key(namespace, owner, held)


def make_key(kube: Kubernetes, namespace: str, owner: Owner, instance: Instance | None) -> bytes:
    """A key where there is no Secret: the instance's own, if the Secret was lost, or a new one."""
    key = _adopted(instance) or secrets.token_bytes(KEY_BYTES)
    held = kube.ensure_secret(namespace, key_secret(owner), {KEY_ENTRY: key}, None)
    return _checked_key(namespace, owner, held)


def _checked_key(namespace: str, owner: Owner, held: Mapping[str, bytes]) -> bytes:
    key = held.get(KEY_ENTRY, b"")
    if len(key) != KEY_BYTES:
        raise InvalidSpec(
            f"Secret {namespace}/{key_secret(owner)} does not hold {KEY_BYTES} bytes under {KEY_ENTRY!r}; "
            f"delete it and the operator makes it again"
        )
    return key


def _adopted(instance: Instance | None) -> bytes | None:
    if instance is None:
        return None
    try:
        key = base64.b64decode(instance.metadata.get(METADATA_KEY, ""), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == KEY_BYTES else None


def _files(kube: References, namespace: str, spec: Spec) -> Mapping[str, bytes] | None:
    """None: they are not here to look at."""
    if spec.predictor.image is not None or spec.predictor.gcs is not None:
        return None
    if spec.predictor.inline is not None:
        return {module_file(spec.predictor.entrypoint): spec.predictor.inline.encode()}
    assert spec.predictor.config_map is not None  # api.parse_spec: exactly one
    name = spec.predictor.config_map.name
    found = kube.config_map(namespace, name)
    if found is None:
        raise ReferenceMissing(f"spec.predictor.configMap.name: there is no ConfigMap {namespace}/{name}")
    check_file_names("spec.predictor.configMap", found)
    return found


def _copied(spec: Spec, listed: Callable[[Address], tuple[Listed, ...]]) -> Copied | None:
    if spec.predictor.gcs is None:
        return None
    address = Address(spec.predictor.gcs)
    return select(address, listed(address), spec.predictor.entrypoint)


def _value(kube: References, namespace: str, field: str, variable: EnvVar) -> str:
    if variable.name.startswith(RESERVED_ENV):
        raise InvalidSpec(f"{field}.name: names that start with {RESERVED_ENV} belong to the server")
    if (variable.value is None) == (variable.value_from is None):
        raise InvalidSpec(f"{field}: exactly one of value and valueFrom must be set")
    if variable.value_from is None:
        return _usable(field, variable.value or "")
    reference = variable.value_from.secret_key_ref
    where = f"{field}.valueFrom.secretKeyRef"
    found = kube.secret(namespace, reference.name)
    if found is None:
        raise ReferenceMissing(f"{where}.name: there is no Secret {namespace}/{reference.name}")
    if reference.key not in found:
        raise ReferenceMissing(f"{where}.key: Secret {namespace}/{reference.name} has no key {reference.key}")
    return _usable(where, _text(where, found[reference.key]))


def _login(kube: References, document: Document, spec: Spec, former: Callable[[], Login | None]) -> Login:
    namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
    secret = login_secret(name, spec)
    if spec.auth.secret_name is None:
        # One that the status knows was deleted on purpose: that is how a login is changed.
        adopts = kube.secret(namespace, secret) is None and not statuses.read(document).login_secret
        login = (former() if adopts else None) or _new_login()
        data = {key: value.encode() for key, value in zip(LOGIN_KEYS, astuple(login), strict=True)}
        found: Mapping[str, bytes] | None = kube.ensure_secret(namespace, secret, data, document)
    else:
        found = kube.secret(namespace, secret)
    if found is None:
        raise ReferenceMissing(f"spec.auth.secretName: there is no Secret {namespace}/{secret}")
    values = []
    for key in LOGIN_KEYS:
        if not found.get(key):
            raise ReferenceMissing(
                f"spec.auth.secretName: Secret {namespace}/{secret} needs a non-empty key {key}"
            )
        values.append(_usable(f"spec.auth.secretName, key {key}", _text(f"Secret {secret}", found[key])))
    return Login(*values)


def _new_login() -> Login:
    password, token = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(2))
    return Login(DEFAULT_USERNAME, password, token)


def former_login(storage: Storage, owner: Owner, instance: Instance) -> Login | None:
    """The login of a VM that is there, opened with its own key.

    Raises:
        BudgetError: it could not be looked up.
    """
    key = _adopted(instance)
    try:
        config = json.loads(instance.metadata.get(METADATA_CONFIG, ""))
        name, revision = str(config["sealed"]), str(config["revision"])
    except (ValueError, KeyError, TypeError):
        return None
    sealed = None if key is None else storage.read(name)
    if key is None or sealed is None:
        return None
    return sealed_login(sealed.data, key, owner.cloud_name, revision)


def _text(field: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidSpec(f"{field}: the value is not UTF-8 text") from None


def _usable(field: str, value: str) -> str:
    if "\0" in value:
        raise InvalidSpec(f"{field}: the value holds a NUL, which no environment variable can")
    return value
