"""What requirement lines mean to uv, and what uv's answer means to people.

The server takes part in the resolution as a package of its own name that declares its ranges, so that uv
names both sides of a conflict. What can never work was refused by the operator before there was a VM; here is
only what depends on the image. Running uv is the business of `environment`.
"""

import importlib.metadata
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from budget_server.vm.errors import RequirementsFailed

SERVER = "budget-server"
_HEAD_CHARACTERS, _TAIL_CHARACTERS = 300, 500
_USERINFO = re.compile(r"://([^/\s]+)@")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_ONLY_INDEX = re.compile(r"\s*(-i\b|--index-url\b|--no-index\b)")
#: What of pip's file format uv takes on its command line only.
_AS_ARGUMENT = {"--pre": "--prerelease=allow", "--trusted-host": "--allow-insecure-host"}


def server_requirements() -> tuple[str, ...]:
    """What the web side declares to need, without the extras that only process 1 needs."""
    declared = importlib.metadata.requires(SERVER) or []
    return tuple(sorted(line for line in declared if "extra ==" not in line))


def server_version() -> str:
    return importlib.metadata.version(SERVER)


def write_server_wheel(directory: Path, requirements: Sequence[str], version: str) -> Path:
    """A wheel without code that declares the server's ranges under its name; the code is the image's."""
    info = f"budget_server-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requirements)
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {SERVER}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: budget\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    path = directory / f"budget_server-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    path.chmod(0o644)
    return path


def points_to_file(line: str) -> bool:
    """Whether a requirement line refers to a file of the code: `-r more.txt`, `./wheel.whl`, `x @ file:…`."""
    return line.lstrip().startswith(("-", ".", "/")) or "file:" in line


@dataclass(frozen=True)
class UvInput:
    """Requirement lines as uv takes them: in its file and on its command line."""

    lines: tuple[str, ...]
    arguments: tuple[str, ...]


def for_uv(lines: Iterable[str]) -> UvInput:
    kept, arguments = [], []
    for line in lines:
        option, *value = re.split(r"[=\s]+", line.strip(), maxsplit=1)
        if option in _AS_ARGUMENT:
            arguments += [_AS_ARGUMENT[option], *value]
        else:
            kept.append(line)
    return UvInput(tuple(kept), tuple(arguments))


def credentials(lines: Iterable[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """What stands before the @ in URLs of these lines, in every spelling that uv may print."""
    found: set[str] = set()
    for line in lines:
        filled = _VARIABLE.sub(lambda match: env.get(match[1], match[0]), line)
        for userinfo in _USERINFO.findall(filled):
            _, _, password = userinfo.partition(":")
            found |= {userinfo, password, unquote(password)}
    return tuple(found - {""})


def check_tools(lines: Iterable[str], find: Callable[[str], str | None]) -> None:
    """A line that needs a program which this image lacks is refused before anything is downloaded.

    Raises:
        RequirementsFailed: naming the line.
    """
    for line in lines:
        if re.search(r"(^|[\s@])git\+", line) and not find("git"):
            raise RequirementsFailed(
                f"The requirement {line[:300]!r} needs git, which the server's image does not have; give an "
                "archive instead, such as name @ https://github.com/OWNER/REPOSITORY/archive/COMMIT.zip, "
                "or use an image with git"
            )


def explain(output: str, ending: str, lines: Sequence[str] = ()) -> str:
    """uv's output as one sentence that tells the cause."""
    error = " ".join(_error_lines(output))
    if len(error) > _HEAD_CHARACTERS + _TAIL_CHARACTERS:
        error = f"{error[:_HEAD_CHARACTERS]} … {error[-_TAIL_CHARACTERS:]}"
    said = [line.strip() for line in output.splitlines() if line.strip()]
    cause = error or (said[-1] if said else f"uv {ending}")
    hint = ""
    if "was not found in the" in cause and any(_ONLY_INDEX.match(line) for line in lines):
        hint = " (the server's own packages have to be found too: use --extra-index-url for a further index)"
    return f"The requirements cannot be installed together with the server's own: {cause}{hint}"


def _error_lines(output: str) -> Iterable[str]:
    """From the first error on to its end: an empty line or a hint."""
    within = False
    for line in output.splitlines():
        within = within or line.startswith("error:")
        if within and line.startswith("hint:"):
            return
        if within and line.strip():
            yield re.sub(r"^(error|cause): ", "", line.strip()) if line.startswith(" ") else line.strip()
