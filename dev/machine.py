"""What a Docker engine changes on the machine, and how to undo it when the engine is gone, however it died.

A snapshot is taken before the private engine starts. Afterwards only what looks like Docker's own work and
did not stand in the snapshot is removed, so rules that others made in the meantime stay.
"""

import contextlib
import itertools
import json
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from os import kill
from pathlib import Path
from typing import Any

from dev.progress import until

SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/default/forwarding",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
)
# dockerd makes these wherever its own folders are
FILES = ("/etc/docker/key.json", "/etc/docker", "/run/docker/plugins", "/run/docker")
TABLES = ("iptables", "ip6tables")
BRIDGE = re.compile(r"docker0|br-[0-9a-f]{12}|veth[0-9a-f]{7}")


@dataclass(frozen=True)
class Snapshot:
    """The machine as it was: boot, links, kernel settings, firewall rules per command, files."""

    boot: str
    links: list[str]
    sysctls: dict[str, str]
    rules: dict[str, list[str]]
    files: list[str]


def take() -> Snapshot:
    """Reads the machine's present state."""
    return Snapshot(
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        links=_links(),
        sysctls={name: value for name in SYSCTLS if (value := _sysctl(name)) is not None},
        rules={command: _rules(command) for command in TABLES},
        files=[path for path in FILES if Path(path).exists()],
    )


def without_docker() -> Snapshot:
    """The present state less what is Docker's: for an engine whose snapshot is lost."""
    present = take()
    rules = {
        command: [
            line for line in lines if not (line.split(" ")[1] == "-A" and _of_docker(line.split(" ", 1)[1]))
        ]
        for command, lines in present.rules.items()
    }
    kept = {command: [line for line in lines if " :DOCKER" not in line] for command, lines in rules.items()}
    return Snapshot(present.boot, [], {}, kept, present.files)


def remember(path: Path) -> None:
    """Writes the snapshot, unless one of this boot is there: its engine was never undone, it is the truth."""
    present = take()
    if (earlier := recall(path)) and earlier.boot == present.boot:
        return
    path.write_text(json.dumps(asdict(present), indent=1))


def recall(path: Path) -> Snapshot | None:
    """The remembered snapshot."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Snapshot(**json.loads(path.read_text()))
    return None


def undo(before: Snapshot) -> None:
    """Removes the links, rules and settings that an engine left behind."""
    for link in _links():
        if link not in before.links and BRIDGE.fullmatch(link):
            _quietly("ip", "link", "delete", link)
    for command in TABLES:
        _undo_rules(command, before.rules.get(command, []))
    for name, value in before.sysctls.items():
        if _sysctl(name) not in (value, None):
            Path("/proc/sys", name).write_text(value)
    for path in FILES:
        if path not in before.files:
            _quietly("rm" if Path(path).is_file() else "rmdir", path)


def unmount_below(folder: Path) -> None:
    """Detaches every mount below a folder, the innermost first."""
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([_unescape(mount) for mount in mounts]):
        if mount.startswith(f"{folder}/"):
            _quietly("umount", "--lazy", mount)


def end_cgroup(name: str) -> None:
    """Kills what lives in the control groups of this name and removes them (v1 and v2)."""
    roots = [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]
    folders = [folder for root in roots for folder in _deepest_first(root)]

    def empty() -> bool:
        pids = {pid for folder in folders for pid in _pids(folder)}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        return not pids

    until(empty, 20, f"Processes in the control group {name} do not end")
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _undo_rules(command: str, before: list[str]) -> None:
    """Rules first, then the chains (all emptied before any is deleted: they refer to each other).

    Docker's first use of a table leaves its empty built-in chains behind; iptables cannot delete those.
    """
    added = [line.split(" ", 1) for line in _rules(command) if line not in before]
    for table, rule in added:
        if rule.startswith("-A") and _of_docker(rule):
            _quietly(command, "-w", "-t", table, "-D", *shlex.split(rule)[1:])
    chains = [(table, text[1:].split(" ")) for table, text in added if text.startswith(":")]
    for table, (chain, policy) in chains:
        if policy != "-":
            _quietly(command, "-w", "-t", table, "-P", chain, _policy(before, table, chain))
    for action in ("-F", "-X"):
        for table, (chain, _) in chains:
            if chain.startswith("DOCKER"):
                _quietly(command, "-w", "-t", table, action, chain)


def _policy(before: list[str], table: str, chain: str) -> str:
    known = [line.split(" ")[2] for line in before if line.startswith(f"{table} :{chain} ")]
    return known[0] if known else "ACCEPT"


def _of_docker(rule: str) -> bool:
    words = rule.split(" ")
    options = dict(itertools.pairwise(words))
    if options.get("-A", "").startswith("DOCKER") or options.get("-j", "").startswith("DOCKER"):
        return True
    if any(BRIDGE.fullmatch(options.get(flag, "")) for flag in ("-i", "-o")):
        return True
    # a published port's hairpin rule: from a container to itself
    return options.get("-j") == "MASQUERADE" and options.get("-s", "-") == options.get("-d")


def _rules(command: str) -> list[str]:
    """The lines of `iptables-save`, each after its table's name, without counters and comments."""
    if not shutil.which(f"{command}-save"):
        return []
    text = subprocess.run([f"{command}-save"], capture_output=True, text=True, check=False).stdout
    table, lines = "", []
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line[:1] in {":", "-"}:
            lines.append(f"{table} {re.sub(r' .[0-9]+:[0-9]+.$', '', line)}")
    return lines


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _deepest_first(root: Path) -> list[Path]:
    folders = [path for path in [root, *root.rglob("*")] if path.is_dir()]
    return sorted(folders, key=lambda path: -len(path.parts))


def _pids(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    return []


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _quietly(*argv: Any) -> None:
    """What is gone already needs no removal."""
    subprocess.run([str(word) for word in argv], capture_output=True, check=False)
