"""`budget-operator plan`: tells what the manifests in a file would make and cost; no cluster is asked.

Every BudgetDeployment in the file is checked as the operator would; of ConfigMaps only what the same file
holds. What is told is in `core.preview`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from budget_operator.core import api, budget, placement, preview
from budget_operator.core.api import Spec
from budget_operator.core.budget import Terms
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.names import Owner, region_of
from budget_operator.core.preview import Preview
from budget_operator.core.prices.forecast import forecast
from budget_operator.core.prices.model import PriceList
from budget_operator.core.requirements import read_requirements
from budget_operator.core.sources import check_code, check_file_names, module_file

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """What an installation would say: its name, its zones and its bucket; each may be empty."""

    installation: str
    zones: tuple[str, ...]
    bucket: str


def plan(file: Path, place: Place, today: date, prices: PriceList) -> str:
    """The text about every BudgetDeployment in the file.

    Raises:
        InvalidSpec: the file cannot be read, holds none, or one that cannot work; the field is named.
    """
    documents = _documents(file)
    deployments = [each for each in documents if each.get("kind") == api.KIND]
    if not deployments:
        raise InvalidSpec(f"{file}: there is no {api.KIND} in it")
    texts = [preview.lines(_preview(each, documents, place, prices), prices, today) for each in deployments]
    return "\n\n".join("\n".join(lines) for lines in texts)


def _documents(file: Path) -> list[Document]:
    try:
        found = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSpec(f"{file} cannot be read: {error}") from error
    return [each for each in found if isinstance(each, Mapping)]


def _preview(
    document: Document, all_documents: Iterable[Document], place: Place, prices: PriceList
) -> Preview:
    metadata = document.get("metadata") or {}
    if not metadata.get("name"):
        raise InvalidSpec("metadata.name: an object needs a name")
    spec = api.parse_spec(document.get("spec"))
    unchecked = _check_code(spec, metadata.get("namespace"), all_documents)
    if spec.placement is None and not place.zones:
        raise InvalidSpec(
            "spec.placement.zones: not given; say where with --zones, as the installation's setting would"
        )
    zones = placement.listed(spec, place.zones) or ()
    region = region_of(zones[0]) if zones else placement.by_price(spec, prices)[0]
    return Preview(
        Owner(place.installation, metadata.get("namespace") or "default", metadata["name"]),
        spec,
        zones,
        region,
        f"gs://{place.bucket}" if place.bucket else "the installation's bucket",
        forecast(prices, spec, region),
        _terms(spec, prices, region),
        unchecked,
    )


def _terms(spec: Spec, prices: PriceList, region: str) -> Terms | None:
    """Raises InvalidSpec for a budget that is too small, or that cannot be kept for want of a price."""
    if spec.budget is None:
        return None
    found = budget.agreed(spec.budget, prices, spec, region)
    if found is None:
        where = f"{spec.machine.type} ({spec.machine.provisioning}) in {region}"
        raise InvalidSpec(f"spec.budget: it cannot be kept: there is no price of {where} in {prices.source}")
    return found


def _check_code(spec: Spec, namespace: str | None, documents: Iterable[Document]) -> tuple[str, ...]:
    """As the operator does before anything is made; what lies elsewhere is named."""
    files = _files(spec, namespace, documents)
    if files is None:
        return (f"the code: it is {_place(spec)}, not in this file",)
    read_requirements(spec.requirements, files)
    check_code(spec, files)
    return ()


def _files(spec: Spec, namespace: str | None, documents: Iterable[Document]) -> Mapping[str, bytes] | None:
    if spec.predictor.inline is not None:
        return {module_file(spec.predictor.entrypoint): spec.predictor.inline.encode()}
    if spec.predictor.config_map is None:
        return None
    wanted = (spec.predictor.config_map.name, namespace)
    for each in documents:
        metadata = each.get("metadata") or {}
        if each.get("kind") == "ConfigMap" and (metadata.get("name"), metadata.get("namespace")) == wanted:
            data: Mapping[str, str] = each.get("data") or {}
            check_file_names("spec.predictor.configMap", data)
            return {name: text.encode() for name, text in data.items()}
    return None


def _place(spec: Spec) -> str:
    """Where code lies that a manifest does not hold."""
    predictor = spec.predictor
    if predictor.config_map is not None:
        return f"in the ConfigMap {predictor.config_map.name}"
    return f"at {predictor.gcs}" if predictor.gcs else f"in {predictor.image} of {spec.image}"
