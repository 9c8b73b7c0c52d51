"""Checks of what the user wrote, before anything is paid for: does the Python compile, is the entrypoint's
class there, are the files' names usable. Requirement lines are checked in `requirements`.

Code is compiled, never executed. Every refusal is an `InvalidSpec` that names the field.
"""

import ast
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping

from budget_operator.core.api import Spec
from budget_operator.core.errors import InvalidSpec

# Python 3.11 counts how deep it is in a tree for all threads together, and fails with a SystemError where
# another one parses meanwhile (CPython issue 106905): workers parse one after another.
_PARSING = threading.Lock()
# What each file that compiles binds, by its digest: every pass checks the code, and a megabyte of it takes
# seconds, in which the others wait.
_COMPILED: dict[bytes, frozenset[str]] = {}
_MOST_KNOWN = 4096

_FILE_NAME = re.compile(r"[-._A-Za-z0-9]{1,253}")


def module_file(entrypoint: str) -> str:
    """`pkg.model:Predictor` -> `pkg/model.py`."""
    return entrypoint.partition(":")[0].replace(".", "/") + ".py"


def check_code(spec: Spec, files: Mapping[str, bytes]) -> None:
    """Every Python file compiles and the entrypoint's module binds the class's name.

    Raises:
        InvalidSpec: naming the field, the file and the line.
    """
    field = "spec.predictor.inline" if spec.predictor.config_map is None else "spec.predictor.configMap"
    names = {name: _bound(field, name, data) for name, data in files.items() if name.endswith(".py")}
    module = module_file(spec.predictor.entrypoint)
    class_name = spec.predictor.entrypoint.partition(":")[2]
    if module not in names:
        present = ", ".join(sorted(files)) or "none"
        raise InvalidSpec(
            f"spec.predictor.entrypoint: there is no file {module} in {field} (files: {present[:500]})"
        )
    if names[module].isdisjoint((class_name, "*")):
        raise InvalidSpec(f"spec.predictor.entrypoint: {module} defines no {class_name}")


def check_file_names(field: str, names: Iterable[str]) -> None:
    """A ConfigMap's keys become files in one directory."""
    for name in names:
        if not _FILE_NAME.fullmatch(name) or name.startswith("..") or name == ".":
            raise InvalidSpec(f"{field}: the key {name!r} is not usable as a file name")


def _bound(field: str, name: str, data: bytes) -> frozenset[str]:
    """Names that running the file could bind; raises as `check_code`."""
    digest = hashlib.sha256(data).digest()
    found = _COMPILED.get(digest)
    if found is None:
        found = frozenset(_bound_names(_parse(field, name, data).body))
        if len(_COMPILED) >= _MOST_KNOWN:
            _COMPILED.clear()
        _COMPILED[digest] = found
    return found


def _parse(field: str, name: str, data: bytes) -> ast.Module:
    try:
        with _PARSING:
            tree = ast.parse(data, filename=name)
            # What parses may still not compile: `return` outside a function, `def f(a, a)`.
            compile(tree, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise InvalidSpec(f"{field}: {name}{where} does not compile: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidSpec(f"{field}: {name} does not compile: {error or type(error).__name__}") from error
    return tree


def _bound_names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that running these statements could bind in the module; `*` for a star import."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        else:
            yield from _bound_names(_inner(statement))


def _inner(statement: ast.stmt) -> Iterator[ast.stmt]:
    """The statements inside an if, try, with, for, while or match, at any depth of these."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            yield from child.body
