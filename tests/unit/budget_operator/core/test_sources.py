"""What the user wrote is checked without being executed; refusals name the field."""

import ast
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from budget_operator.core.api import parse_spec
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.sources import check_code, check_file_names, module_file


def check(source: str | bytes, entrypoint: str = "predictor:Predictor", **more: bytes) -> None:
    spec = parse_spec({"predictor": {"inline": "x", "entrypoint": entrypoint}})
    data = source if isinstance(source, bytes) else source.encode()
    check_code(spec, {module_file(entrypoint): data, **{f"{name}.py": text for name, text in more.items()}})


@pytest.mark.parametrize(
    "source",
    [
        "class Predictor: ...",
        "def Predictor(): ...",
        "from model import Predictor",
        "from model import Net as Predictor",
        "from model import *",
        "Predictor = make()",
        "Predictor: type = make()",
        "(Predictor, x) = make()",
        "try:\n    import fast\nexcept ImportError:\n    class Predictor: ...",
        "if True:\n    with x:\n        class Predictor: ...",
        "# -*- coding: latin-1 -*-\nclass Predictor: ...",
    ],
)
def test_every_way_to_bind_the_class_is_seen(source: str) -> None:
    check(source)


@pytest.mark.parametrize(
    "source",
    ["", "class Other: ...", "def load():\n    class Predictor: ...", "class A:\n    class Predictor: ..."],
)
def test_a_missing_class_names_the_entrypoint(source: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.predictor\.entrypoint: predictor\.py defines no Predictor"):
        check(source)


def test_code_that_does_not_compile_names_file_and_line() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.predictor\.inline: predictor\.py, line 2 does not compile"):
        check("x = 1\ndef broken(:\n")


@pytest.mark.parametrize(
    "line",
    [
        "return 1",
        "break",
        "await x",
        "yield 1",
        "def f(a, a): ...",
        "def f():\n    x = 1\n    global x",
        "from __future__ import magic",
        "f(**a, *b)",
    ],
)
def test_what_parses_but_does_not_compile_is_refused(line: str) -> None:
    with pytest.raises(InvalidSpec, match=r"predictor\.py, line \d+ does not compile"):
        check(f"class Predictor: ...\n{line}\n")


@pytest.mark.parametrize("source", [b"class Predictor: ...\n\0", b"\xff\xfe", b"(" * 5000])
def test_odd_bytes_are_refused_not_raised(source: bytes) -> None:
    with pytest.raises(InvalidSpec, match="does not compile"):
        check(source)


def test_every_file_is_checked() -> None:
    with pytest.raises(InvalidSpec, match=r"helper\.py, line 1"):
        check("class Predictor: ...", helper=b"oops(")


def test_nothing_is_executed() -> None:
    check("raise SystemExit\nclass Predictor: ...")


def test_the_module_has_to_be_there() -> None:
    spec = parse_spec({"predictor": {"configMap": {"name": "c"}, "entrypoint": "model:Net"}})
    with pytest.raises(InvalidSpec, match=r"no file model\.py in spec.* \(files: a\.py\)"):
        check_code(spec, {"a.py": b""})


def test_a_dotted_module_is_a_path() -> None:
    assert module_file("pkg.model:Net") == "pkg/model.py"
    check("class Net: ...", entrypoint="pkg.model:Net")


@pytest.mark.parametrize("name", ["predictor.py", "data.json", "weights-1.bin", ".env"])
def test_usable_file_names(name: str) -> None:
    check_file_names("spec.predictor.configMap", [name])


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "x" * 254, "naïve.py"])
def test_unusable_file_names(name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.predictor\.configMap: "):
        check_file_names("spec.predictor.configMap", [name])


def test_what_compiles_is_compiled_once_and_what_does_not_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    parse = ast.parse

    def counting(source: bytes, filename: str) -> ast.Module:
        compiled.append(filename)
        return parse(source, filename=filename)

    monkeypatch.setattr(ast, "parse", counting)
    for _ in range(2):
        check("class Predictor: ...  # of this test", more=b"x = 'of this test'")
        with pytest.raises(InvalidSpec, match=r"other\.py, line 1 does not compile"):
            check("class Predictor: ...  # of this test", other=b"def broken(:  # of this test")
        with pytest.raises(InvalidSpec, match=r"pkg/more\.py defines no Predictor"):
            check(b"x = 'of this test'", entrypoint="pkg.more:Predictor")
    assert sorted(compiled) == ["more.py", "other.py", "other.py", "predictor.py"]


def test_workers_that_parse_at_once_do_not_disturb_each_other() -> None:
    """As they come up together: where Python itself is not prepared for it, at some collection of garbage."""
    source = "class Predictor:\n" + "    x = [(1, 2), {3: (4, 5)}]\n" * 300
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()

    def hand_over(*_: object) -> None:
        time.sleep(0)  # another thread gets the interpreter, in the middle of a collection

    gc.callbacks.append(hand_over)
    sys.setswitchinterval(1e-5)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(8) as pool:
            for checked in [pool.submit(check, f"{source}# {number}") for number in range(40)]:
                checked.result()
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
        gc.callbacks.remove(hand_over)
