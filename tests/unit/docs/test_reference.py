"""What the documents list is what there is: fields, conditions, reasons, settings, targets, links."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from budget_operator.core import api, changes, crd, pause, settings, sources, status
from budget_operator.core.conditions import Reason, Type
from budget_operator.core.requirements import read_requirements
from budget_server.settings import Settings as ServerSettings
from dev import demo
from dev.paths import ROOT

README = ROOT / "README.md"
REFERENCE = ROOT / "crds" / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
DOCUMENTS = (
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    REFERENCE,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("examples/*/*.md")),
)
NOT_SOURCE = re.compile(r"\..*|__pycache__|.*\.egg-info")


def rows(path: Path, heading: str = "") -> dict[str, str]:
    """Lines of tables that begin with a name in backticks, by that name; of one section or of all."""
    text = path.read_text(encoding="utf-8")
    if heading:
        level = heading.count("#")
        text = re.split(rf"^#{{1,{level}}} ", text.split(f"\n{heading}\n")[1], flags=re.MULTILINE)[0]
    return {name: line for line, name in re.findall(r"^(\| `([^`|]+)` \|.*)$", text, re.MULTILINE)}


def fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field below this one, as `spec.env[].name`, with its schema."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
        yield from fields(child.get("items", {}), f"{path}.{name}[]")


def schema_of(part: str) -> Mapping[str, Any]:
    version = crd.definition()["spec"]["versions"][0]
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def test_every_field_of_spec_has_its_row_and_nothing_else_has() -> None:
    documented = {name for name in rows(REFERENCE, "## Spec") if name.startswith("spec.")}
    assert documented == {path for path, _ in fields(schema_of("spec"), "spec")}


def kind_of(path: str) -> str:
    """What a change of the field does: the first words of its row's last column."""
    change = rows(REFERENCE, "## Spec")[path].rstrip(" |").rpartition("| ")[2]
    text = REFERENCE.read_text(encoding="utf-8").partition("What a change does is one of:")[2]
    kinds = re.findall(r"^- \*\*([a-z ]+)\*\*:", text.partition("\n| ")[0], re.MULTILINE)
    return next((kind for kind in kinds if re.match(rf"{kind}\b", change)), "")


def told_effect(field: str) -> str:
    """What `budget-operator plan` says of it, by itself or with the part that it belongs to."""
    while field not in changes.EFFECTS:
        field = field.rpartition(".")[0]
        assert field
    return changes.EFFECTS[field]


def test_every_field_says_what_its_change_does() -> None:
    paths = [path for path, _ in fields(schema_of("spec"), "spec")]
    parents = {path for path in paths if any(other.startswith((f"{path}.", f"{path}[]")) for other in paths)}
    leaves = [path for path in paths if path not in parents]
    assert [path for path in leaves if not kind_of(path)] == []
    told = {path: told_effect(path.removeprefix("spec.").replace("[]", "")) for path in leaves}
    assert told == {path: kind_of(path) for path in leaves}, "budget-operator plan says the same"


@pytest.mark.parametrize(("path", "schema"), list(fields(schema_of("spec"), "spec")))
def test_defaults_and_limits_are_those_of_the_schema(path: str, schema: Mapping[str, Any]) -> None:
    row = rows(REFERENCE, "## Spec")[path]
    if "default" in schema and schema["default"] != {}:
        default = schema["default"]
        assert f"`{str(default).lower() if isinstance(default, bool) else default}`" in row
    if "minimum" in schema:
        assert f"{schema['minimum']} to {schema['maximum']}" in row
    if "maxItems" in schema:
        assert re.search(rf"\b{schema['maxItems']}\b", row)
    for word in schema.get("enum", ()):
        assert f"`{word}`" in row


def test_every_field_of_status_is_explained() -> None:
    documented = {name for name in rows(REFERENCE, "## Status") if name.startswith("status.")}
    known = {path for path, _ in fields(schema_of("status"), "status")}
    assert documented <= known
    for path in known:
        parent, _, leaf = path.removesuffix("[]").rpartition(".")
        inside = any(name.startswith(f"{path}.") for name in documented)
        in_row_of_parent = f"`{leaf}`" in rows(REFERENCE, "## Status").get(parent.removesuffix("[]"), "")
        assert path in documented or inside or in_row_of_parent, f"{path} is not in {REFERENCE}"


def test_every_condition_is_explained() -> None:
    assert set(rows(REFERENCE, "### Conditions")) == set(Type)


def test_every_reason_is_explained() -> None:
    event_only = {
        Reason.PREEMPTED,
        Reason.RECREATED_FOR_MEMORY,
        Reason.IMAGE_REPLACED,
        Reason.DRILL_STARTED,
        Reason.DRILL_RECOVERED,
        Reason.DRILL_REFUSED,
        Reason.RETAINED,
        Reason.ABANDONED,
    }
    assert set(rows(REFERENCE, "### Reasons")) == set(Reason) - event_only
    events = REFERENCE.read_text(encoding="utf-8").split("## Events")[1]
    assert all(f"`{reason}`" in events for reason in event_only)


def test_every_state_is_explained() -> None:
    functions = (status.state, status._state_on_the_way, status.deleting)
    constants = {text for function in functions for text in strings_of(function.__code__.co_consts)}
    states = {text for text in constants if re.fullmatch("[A-Z][a-z]+", text)} - {"False", "True"}
    assert set(rows(REFERENCE, "### State")) == states | pause.STATES


def strings_of(constants: tuple[Any, ...]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, tuple):
            yield from strings_of(constant)
        elif isinstance(constant, str):
            yield str(constant)


def test_every_column_is_explained() -> None:
    table = REFERENCE.read_text(encoding="utf-8").split("| column | shows |")[1].split("\n\n")[0]
    for column in crd.COLUMNS:
        assert re.search(rf"(?<!\w){re.escape(column['name'].upper())}(?!\w)", table), column["name"]


def test_every_setting_of_the_operator_is_explained() -> None:
    source = inspect.getsource(settings)
    names = re.findall(r'read\.(required|get)\(\s*"([A-Z_]+)"', source)
    assert len(names) > 15
    documented = rows(SETTINGS, "## Operator")
    for kind, name in names:
        assert name in documented, f"{name} is not in {SETTINGS}"
        assert ("| required |" in documented[name]) == (kind == "required"), name


def test_every_setting_of_the_server_is_explained() -> None:
    text = SETTINGS.read_text(encoding="utf-8").split("## Model server")[1]
    for field in ServerSettings.model_fields.values():
        assert f"`{field.alias}`" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        place = document.parent / path if path else document
        assert place.exists(), f"{document}: {target}"
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{document}: {target}"


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", (README, REFERENCE), ids=str)
def test_the_manifests_shown_would_be_accepted(document: Path) -> None:
    shown = re.findall(
        r"^```yaml\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert shown
    for content in shown:
        manifest = yaml.safe_load(content)
        assert manifest["apiVersion"] == f"{api.GROUP}/{api.VERSION}"
        spec = api.parse_spec(manifest["spec"])
        assert spec.predictor.inline
        sources.check_code(spec, {"predictor.py": spec.predictor.inline.encode()})
        read_requirements(spec.requirements, {})


def test_every_file_that_is_named_exists() -> None:
    """A bare `core/plan.py` is the operator's, `vm/…` the server's."""
    bases = (ROOT, ROOT / "operator" / "budget_operator", ROOT / "server" / "budget_server")
    for document in DOCUMENTS:
        named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|sh|yaml))`", document.read_text(encoding="utf-8"))
        for path in named:
            assert any((base / path).exists() for base in bases), f"{document}: {path}"


def test_the_story_shown_has_the_steps_of_the_demo() -> None:
    names = re.findall(r'(?:Figure\(|chapter\(|measure\(\s*)"([^"]+)"', inspect.getsource(demo))
    assert len(names) > 6
    text = README.read_text(encoding="utf-8")
    for name in names:
        assert re.search(rf"^{re.escape(name)} +[0-9.]+ +[0-9]+", text, re.MULTILINE), name


def test_every_folder_is_in_the_layout() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not NOT_SOURCE.fullmatch(path.name)}
    assert {name.removesuffix("/") for name in rows(README, "## Layout")} == folders


def test_troubleshooting_has_a_remedy_for_every_trouble() -> None:
    reasons = REFERENCE.read_text().partition("### Reasons")[2].partition("## Events")[0]
    trouble = set(re.findall(r"^\| `(\w+)` \|", reasons.partition("Trouble on the VM")[2], re.MULTILINE))
    headings = re.findall(r"^### (.*)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    named = [name for heading in headings for name in re.findall(r"`(\w+)`", heading)]
    assert sorted(named) == sorted(trouble), "each once"
