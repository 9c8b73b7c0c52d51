"""Commands and answers are found as a reader finds them, and an answer that is not as shown is noticed."""

from pathlib import Path

import pytest

from dev.documents import Shown, agrees, blocks, commands
from dev.errors import DevError

DOCUMENT = """# Title

```yaml
not: commands
```

```sh
# a comment
first --with \\
  more
second |
  third

ask() {
  curl "$1"
}
```

Some words.

```json
{"a": 1}
```

```text
not an answer: there is one already
```

```sh
last
```

```
a picture
```
"""


def test_commands_and_their_answer(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    one, two = blocks(path)
    assert one.commands == ("first --with \\\n  more", "second |\n  third", 'ask() {\n  curl "$1"\n}')
    assert one.shown == Shown("json", '{"a": 1}\n')
    assert two.commands == ("last",)
    assert two.shown is None


def test_a_command_that_never_ends_is_named() -> None:
    with pytest.raises(DevError, match="echo 'open"):
        commands("true\necho 'open\n")


SHOWN = """NAME   READY   ENDPOINT               PREEMPTED   AGE
iris   True    https://10.202.50.10   0           27s
"""


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        (SHOWN, True),
        ("NAME READY ENDPOINT PREEMPTED AGE\niris True https://10.202.51.23 0 3m4s\n", True),
        ("NAME READY ENDPOINT PREEMPTED AGE\niris False https://10.202.51.23 0 3m4s\n", False),
        ("NAME READY ENDPOINT PREEMPTED AGE\niris True https://10.202.51.23 1 3m4s\n", False),
        ("NAME READY ENDPOINT PREEMPTED AGE\niris True http://10.202.51.23 0 3m4s\n", False),
        (f"{SHOWN}photo True https://10.202.50.11 0 3s\n", False),
        ("", False),
    ],
)
def test_text_is_compared_without_what_varies(printed: str, same: bool) -> None:
    assert agrees(Shown("text", SHOWN), printed) is same


def test_an_ellipsis_stands_for_any_lines() -> None:
    shown = Shown("text", "first\n…\nlast\n")
    assert agrees(shown, "first\nlast\n")
    assert agrees(shown, "first\na\nb\nlast\n")
    assert not agrees(shown, "first\na\nb\n")


def test_json_is_compared_by_value() -> None:
    shown = Shown("json", '{"a": 1, "b": [2]}')
    assert agrees(shown, '{"b":[2],"a":1}')
    assert not agrees(shown, '{"b":[2],"a":2}')
    assert not agrees(shown, "not JSON")
