"""`budget-server check` as its users run it: the command, its output and its exit code."""

import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from budget_server.check import agree

Run = Callable[..., subprocess.CompletedProcess[str]]
ECHO = """
    class Predictor:
        def load(self):
            self.word = "hello"
            print("printed by load")

        def predict(self, request):
            return {"said": self.word, "got": request.payload}
"""


@pytest.fixture
def check(tmp_path: Path) -> Run:
    """check(source, *arguments) writes predictor.py and checks its folder."""

    def run(source: str, *arguments: str, path: str = ".") -> subprocess.CompletedProcess[str]:
        (tmp_path / "predictor.py").write_text(textwrap.dedent(source))
        command = [str(Path(sys.executable).with_name("budget-server")), "check", path, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return run


def predicting(body: str) -> str:
    return f"class Predictor:\n    def load(self): pass\n    def predict(self, request):\n        {body}\n"


def test_a_payload_is_answered_on_stdout_and_all_else_is_on_stderr(check: Run) -> None:
    done = check(ECHO, "--payload", '{"text": "hi ✓"}')
    assert done.returncode == 0
    assert done.stdout == '{\n  "said": "hello",\n  "got": {\n    "text": "hi ✓"\n  }\n}\n'
    lines = done.stderr.splitlines()
    assert lines[0] == "printed by load"
    assert lines[1].startswith("load     ")
    assert lines[1].endswith(" s for predictor:Predictor")
    assert lines[2].startswith("predict  ")
    assert lines[2].endswith(" ms")


def test_without_a_payload_it_is_only_loaded(check: Run) -> None:
    done = check(predicting("raise AssertionError"))
    assert (done.returncode, done.stdout) == (0, "")


def test_a_file_and_an_entrypoint(check: Run, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "helper.py").write_text("def answer(): return 42")
    (tmp_path / "src" / "weights.txt").write_text("7")
    (tmp_path / "src" / "model.py").write_text(
        "from helper import answer\n"
        + predicting("return [answer(), open('weights.txt').read()]").replace("class Predictor", "class Mine")
    )
    done = check("", "--entrypoint", "model:Mine", "--payload", "{}", path="src/model.py")
    assert json.loads(done.stdout) == [42, "7"], done.stderr


def test_the_payload_comes_from_a_file_and_is_asked_for_repeatedly(check: Run, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text("[1, 2]")
    done = check(predicting("return sum(request.payload)"), "--payload", "@payload.json", "--repeat", "5")
    assert done.stdout == "3\n", done.stderr
    assert "median" in done.stderr
    assert done.stderr.rstrip().endswith("ms of 5")


@pytest.mark.parametrize(("route", "kind"), [("predict", "PredictRequest"), ("predict_dict", "DictPayload")])
def test_the_route_says_what_predict_is_given(check: Run, route: str, kind: str) -> None:
    done = check(predicting("return type(request).__name__"), "--payload", "{}", "--route", route)
    assert json.loads(done.stdout) == kind, done.stderr


def test_the_request_can_be_awaited(check: Run) -> None:
    source = predicting("return await request.json()").replace("def predict", "async def predict")
    done = check(source, "--payload", "1")
    assert json.loads(done.stdout) == {"payload": 1}, done.stderr


def test_an_image_arrives_as_on_the_server_and_one_is_written(check: Run, tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20), "red")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "photo.jpg", exif=exif)
    source = """
        from PIL import Image
        class Predictor:
            def load(self): pass
            def predict(self, request):
                image = Image.open(request.file)
                print(image.size, image.mode, request.filename)
                return image.resize((2, 3))
    """
    done = check(source, "--file", "photo.jpg", "--output", "out.png")
    assert done.returncode == 0, done.stderr
    assert "(20, 40) RGB" in done.stderr
    assert done.stdout.startswith("image/png, ")
    assert Image.open(io.BytesIO((tmp_path / "out.png").read_bytes())).size == (2, 3)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("return b'abc'", "application/octet-stream, 3 bytes"),
        ("yield 'a'; yield 'b'", "ab"),
        ("yield {'a': 1}; yield 2", '{"a":1}\n2'),
        (
            "from starlette.responses import PlainTextResponse; return PlainTextResponse('x', 201)",
            "status 201: x",
        ),
    ],
)
def test_other_answers(check: Run, body: str, shown: str) -> None:
    done = check(predicting(body), "--payload", "{}")
    assert (done.returncode, done.stdout) == (0, shown + "\n"), done.stderr


BATCH = """
    class Predictor:
        def load(self): pass
        def predict(self, request): return {"x": request["x"] * 0.1}
        def predict_batch(self, requests): return %s
"""


@pytest.mark.parametrize(
    ("result", "code", "told"),
    [
        ("[{'x': r['x'] * 0.1 + 1e-9} for r in requests]", 0, "predict_batch agrees with predict"),
        ("[{'x': r['x'] * 0.2} for r in requests]", 1, "predict_batch answers differently"),
        ("[{'x': r['x'] * 0.1} for r in requests[:1]]", 1, "predict_batch fails for 3 items"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("[1 / (len(requests) == 1)]", 1, "return [1 / (len(requests) == 1)]"),
    ],
)
def test_predict_batch_is_compared(check: Run, result: str, code: int, told: str) -> None:
    done = check(BATCH % result, "--payload", '{"x": 3}')
    assert done.returncode == code, done.stderr
    assert told in done.stderr


def test_a_predictor_that_rolls_dice_is_not_compared(check: Run) -> None:
    source = """
        import random
        class Predictor:
            def load(self): pass
            def predict(self, request): return random.random()
            def predict_batch(self, requests): return [random.random() for _ in requests]
    """
    done = check(source, "--payload", "{}")
    assert done.returncode == 0
    assert "not compared" in done.stderr


@pytest.mark.parametrize(
    ("source", "told", "line"),
    [
        ("import no_such_module", "No module named 'no_such_module'", "import no_such_module"),
        ("class Predictor\n    pass", "SyntaxError", "class Predictor"),
        ("class Predictor:\n  def load(self): open('weights')\n  predict = load", "No such file", "open("),
        ("class Predictor:\n    def __init__(self): raise OSError('no')\n", "OSError: no", "raise OSError"),
        (predicting("return {'a': 1}[request.payload['secret']]"), "KeyError: 'text'", "return {'a': 1}["),
        (predicting("exit(3)"), "SystemExit: 3", "exit(3)"),
        (predicting("yield 1; raise ValueError('late')"), "ValueError: late", "raise ValueError"),
    ],
)  # fmt: skip
def test_a_broken_predictor_shows_its_own_traceback_and_nothing_of_ours(
    check: Run, source: str, told: str, line: str
) -> None:
    done = check(source, "--payload", '{"secret": "text"}')
    assert done.returncode == 1
    assert done.stdout == ""
    assert told in done.stderr
    assert line in done.stderr
    assert "predictor.py" in done.stderr
    for ours in ("budget_server", "importlib", "asyncio", "site-packages"):
        assert ours not in done.stderr


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "predictor:Predictor: the module predictor has no class Predictor."),
        ("class Predictor:\n    def load(self): pass\n", "the class Predictor has no method predict."),
        (predicting("return {'a': [object()]}"), "JSON cannot hold: under the key 'a[0]'"),
        (predicting("import fastapi; raise fastapi.HTTPException(404, 'no city')"), "Refused: no city"),
    ],
)
def test_what_has_no_traceback_is_said_in_a_line(check: Run, source: str, told: str) -> None:
    done = check(source, "--payload", "{}")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--payload", "{"), "--payload: The body is not JSON"),
        (("--payload", "@absent.json"), "absent.json"),
        (("--payload", "[1]", "--route", "predict_dict"), "must be a JSON object"),
        (("--file", "absent.png"), "absent.png"),
        (("--file", "predictor.py"), "image"),
        (("--payload", "{}", "--file", "a.png"), "not allowed with"),
        (("--entrypoint", "Predictor"), "module:Class"),
        (("--repeat", "0"), "less than 1"),
    ],
)
def test_usage(check: Run, arguments: tuple[str, ...], told: str) -> None:
    done = check(ECHO, *arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_is_not_there(check: Run) -> None:
    done = check(ECHO, path="nowhere")
    assert done.returncode == 2
    assert "nowhere is neither a folder nor a .py file" in done.stderr


def test_names_of_the_predictor_do_not_replace_ours(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text("main = time = sys = None\n" + predicting("return 1"))
    command = [sys.executable, "-m", "budget_server.check", "check", str(tmp_path), "--payload", "{}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1.0, None]}, {"a": [1.00000001, None]}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1, 2], [1], False),
        (1, 1.0, True),
        (1.0, 1.1, False),
        (True, 1, False),
        ("a", "b", False),
        (None, 0, False),
    ],
)
def test_agree(one: object, other: object, same: bool) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same
