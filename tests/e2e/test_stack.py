"""Up and down from any state, on a stack beside the main one; the README's test calls `make` itself."""

import subprocess

from dev import cluster, engine, environment
from dev import stack as stacks
from dev.process import Process, processes_of
from dev.stack import Stack
from tests.e2e.conftest import in_docker


def parts(stack: Stack) -> tuple[Process, ...]:
    return (*cluster.processes(stack.home), stacks.localcloud(stack.home), stack.operator)


def pids(stack: Stack) -> dict[str, int | None]:
    return {part.name: part.pid() for part in parts(stack)}


def test_every_process_has_a_pid_file_and_up_again_starts_nothing(stack: Stack) -> None:
    before = pids(stack)
    assert None not in before.values()
    files = {path.stem: int(path.read_text()) for path in stack.home.run.glob("*.pid")}
    assert files == before
    stacks.up(stack.home)
    assert pids(stack) == before


def test_the_operator_runs_as_its_service_account(stack: Stack) -> None:
    as_operator = cluster.Kubectl(stack.home.operator_kubeconfig)
    who = as_operator.json("auth", "whoami")["status"]["userInfo"]["username"]
    assert who == "system:serviceaccount:budgetml-system:budget-operator"
    refused = as_operator("get", "secrets", "--all-namespaces", check=False)
    assert refused.returncode != 0


def test_a_shell_that_sources_the_file_finds_everything(stack: Stack) -> None:
    script = f". {environment.path(stack.home)} && kubectl get bd -A && localcloud ls && docker version"
    docker = stack.docker.client.rpartition("/")[0]
    done = subprocess.run(
        ["sh", "-c", f'PATH={docker}:"$PATH"; {script}'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_was_killed_comes_back_with_its_data(stack: Stack) -> None:
    stack.kubectl("create", "configmap", "survivor", "--namespace=default")
    for part in parts(stack):
        part.kill()
    assert set(pids(stack).values()) == {None}
    stacks.up(stack.home)
    assert None not in pids(stack).values()
    stack.kubectl("get", "configmap", "survivor", "--namespace=default")


def test_down_leaves_nothing_of_a_killed_stack_and_can_be_repeated(stack: Stack) -> None:
    for part in parts(stack):
        part.kill()
    stacks.down(stack.home)
    stacks.down(stack.home)
    assert processes_of(stack.home) == []
    assert in_docker(stack.docker, stack.home) == []
    assert not list(stack.home.run.glob("*.pid"))
    assert engine.find() is not None, "the engine is not this stack's alone"
    stacks.up(stack.home)
    assert stack.kubectl("get", "configmap", "survivor", "-n=default", check=False).returncode != 0
