"""What requirement lines mean to uv, and what uv's answer means."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import budget_server
from budget_server.vm.errors import RequirementsFailed
from budget_server.vm.requirements import (
    check_tools,
    credentials,
    explain,
    for_uv,
    points_to_file,
    server_requirements,
)


@pytest.mark.parametrize(
    ("line", "is_file"),
    [("a==1", False), ("-r x.txt", True), (" ./a.whl", True), ("a @ file:///b", True), ("a[b]>=1.0", False)],
)
def test_lines_that_point_to_a_file(line: str, is_file: bool) -> None:
    assert points_to_file(line) is is_file


def test_the_server_asks_for_its_own_but_not_for_process_1() -> None:
    names = " ".join(server_requirements())
    assert "fastapi" in names
    assert "gunicorn" in names
    assert not any(name in names for name in ("caddy", "httpx", "uv<"))


def closure(lines: tuple[str, ...]) -> set[str]:
    """Every distribution that installing these brings, by normalized name."""
    found: set[str] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        need, extra = todo.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        found.add(need.name.lower().replace("_", "-"))
        inner = importlib.metadata.requires(need.name) or []
        todo += [(Requirement(line), extra) for line in inner for extra in ("", *need.extras)]
    return found


def test_an_environment_has_whatever_the_web_side_imports() -> None:
    package = Path(budget_server.__file__).parent
    web_side = [path for path in package.rglob("*.py") if "vm" not in path.relative_to(package).parts]
    imported = {
        name.partition(".")[0]
        for path in web_side
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    }
    foreign = imported - sys.stdlib_module_names - {"budget_server", ""}
    assert {"fastapi", "orjson", "PIL", "prometheus_client", "uvicorn"} <= foreign
    brought = closure(server_requirements())
    owners = importlib.metadata.packages_distributions()
    for name in foreign:
        assert {owner.lower().replace("_", "-") for owner in owners.get(name, [])} & brought, name


def test_explaining_without_a_word_from_uv() -> None:
    assert explain("", "was ended by SIGKILL").endswith("uv was ended by SIGKILL")


def test_explaining_takes_all_causes_and_no_hint() -> None:
    output = (
        "Using Python 3.11.7\nwarning: odd\nerror: Failed to fetch: x\n  cause: A\n         more of A\n"
        "  cause: B\n\nhint: something else"
    )
    assert explain(output, "").endswith("server's own: error: Failed to fetch: x A more of A B")


def test_a_long_explanation_keeps_both_ends() -> None:
    said = explain("error: begin\n  cause: " + "x " * 2000 + "end", "")
    assert "error: begin" in said
    assert said.endswith("end")
    assert len(said) < 1000


def test_what_uv_takes_only_as_an_argument() -> None:
    given = for_uv(["numpy", "--pre", "--trusted-host=h.example", " --trusted-host  i.example", "-c x.txt"])
    assert given.lines == ("numpy", "-c x.txt")
    hosts = ("--allow-insecure-host", "h.example", "--allow-insecure-host", "i.example")
    assert given.arguments == ("--prerelease=allow", *hosts)


def test_credentials_of_urls_in_every_spelling() -> None:
    lines = ["-i https://me:a%2Bb@h.example/simple", "x @ https://${TOKEN}@h.example/x.whl", "numpy==2"]
    found = set(credentials(lines, {"TOKEN": "t0ken"}))
    assert found == {"me:a%2Bb", "a%2Bb", "a+b", "t0ken"}


def test_git_lines_need_git() -> None:
    lines = ["numpy", "x @ git+https://h.example/x"]
    check_tools(lines, lambda name: "/usr/bin/git")
    check_tools(lines[:1], lambda name: None)
    with pytest.raises(RequirementsFailed, match=r"'x @ git\+https://h\.example/x' needs git"):
        check_tools(lines, lambda name: None)
