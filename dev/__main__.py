"""The commands of `python -m dev`; the Makefile is the way in for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dev import checks, cluster, demo, engine, environment, images, locks, stack
from dev.bench import localcloud, operator, rollout, serving, vm
from dev.conformance import run as conformance
from dev.errors import DevError
from dev.kind import story
from dev.paths import KIND, MAIN, locked
from dev.process import Process
from dev.progress import step

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
engine_app = typer.Typer(no_args_is_help=True, help="The Docker engine alone.")
cluster_app = typer.Typer(no_args_is_help=True, help="The Kubernetes control plane alone.")
app.add_typer(engine_app, name="engine")
app.add_typer(cluster_app, name="cluster")

Kubeconfig = Annotated[Path | None, typer.Option(help="Use this cluster instead of an own control plane.")]


@contextmanager
def told() -> Iterator[None]:
    """Errors for people end the program with their sentence."""
    try:
        yield
    except DevError as error:
        print(f"\n{error}", file=sys.stderr)
        raise typer.Exit(1) from error


@app.command()
def up(kubeconfig: Kubeconfig = None) -> None:
    """Bring the whole stack up and leave it running."""
    with told():
        stack.up(MAIN, kubeconfig)
    print(f"\nUp. For this shell:  . {environment.path(MAIN).relative_to(Path.cwd())}")


@app.command()
def down() -> None:
    """End everything that runs and leave nothing behind."""
    with told():
        stack.down_all()


@app.command()
def status() -> None:
    """What runs, with pids and addresses."""
    names = ("dockerd", "etcd", "kube-apiserver", "kube-controller-manager", "localcloud", "operator")
    for name in names:
        pid = Process(MAIN, name).pid()
        print(f"{name:<26}{'running' if pid else '-':<10}{pid or ''}")
    with told():
        docker = engine.find()
    print(f"{'Docker engine':<26}{docker.host if docker else '-'}")
    print(f"{'local cloud':<26}{MAIN.cloud_url if stack.localcloud(MAIN).pid() else '-'}")


@app.command("demo")
def play_demo() -> None:
    """Play the whole story and say how long everything took."""
    with told():
        raise typer.Exit(0 if demo.play() else 1)


@app.command("kind")
def play_in_kind() -> None:
    """Play the story of the demo in a kind cluster, which stays up."""
    with told():
        good = story.play()
    if not good:
        raise typer.Exit(1)
    print(f"\nUp. For this shell:  . {environment.path(KIND).relative_to(Path.cwd())}")


@app.command("kind-down")
def end_kind() -> None:
    """Remove the kind cluster with all that it made, and the engine if it was started for it."""
    with told(), step("kind cluster removed"):
        story.end()
    with told(), step("Docker engine ended") as current:
        current.note = "private" if engine.release() else "other things use it, or it is not ours"


@app.command("images")
def build_images() -> None:
    """Build the images that changed."""
    with told():
        docker = engine.up()
    with told(), locked("images"), step("images") as current:
        current.note = ", ".join(images.build(docker, images.TARGETS)) or "unchanged"


@app.command("test")
def run_checks(only: Annotated[list[str] | None, typer.Argument(help="Names of checks.")] = None) -> None:
    """Run every check, or the named ones, and say how each ended."""
    with told():
        raise typer.Exit(0 if checks.run(only or []) else 1)


@app.command("bench-serving")
def bench_serving(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of every server.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, max=60, help="Length of one measurement.")] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with this word (echo, budget/mlp, batch, start); repeatable."),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also install and measure other model servers.")
    ] = False,
) -> None:
    """Measure the model server against the bare callable it stands on."""
    with told():
        good = serving.run(serving.Options(rounds, seconds, tuple(only or ()), peers))
        raise typer.Exit(0 if good else 1)


@app.command("bench-rollout")
def bench_rollout(
    rollouts: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 10,
) -> None:
    """Replace the model while callers keep calling, and count what is lost."""
    with told():
        raise typer.Exit(0 if rollout.run(rollouts) else 1)


@app.command("bench-vm")
def bench_vm(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="New VMs, each rebooted once.")] = 3,
) -> None:
    """Measure how fast a VM boots, beside a bare `docker run` of the same image."""
    with told():
        raise typer.Exit(0 if vm.run(rounds) else 1)


@app.command("bench-localcloud")
def bench_localcloud(
    instances: Annotated[int, typer.Option(min=1, max=5000, help="How many live a short life.")] = 1000,
) -> None:
    """Measure how fast the local cloud is, with simulated VMs."""
    with told():
        raise typer.Exit(0 if localcloud.run(instances) else 1)


@app.command("bench-operator")
def bench_operator(
    few: Annotated[int, typer.Option(min=1, help="Deployments at rest to compare with.")] = 100,
    ready: Annotated[int, typer.Option(min=1, help="Deployments brought up at once.")] = 500,
    many: Annotated[int, typer.Option(min=1, help="Deployments at rest, and in the storm.")] = 2000,
    idle_minutes: Annotated[float, typer.Option(min=0.1, help="For how long they rest.")] = 10.0,
    latency: Annotated[float, typer.Option(min=0, help="Seconds that a call to the cloud takes.")] = 0.1,
) -> None:
    """Measure the operator with many deployments: to Ready, at rest and in a storm."""
    with told():
        options = operator.Options(few, ready, many, idle_minutes, latency)
        raise typer.Exit(0 if operator.run(options) else 1)


@app.command("conformance")
def run_conformance(
    only: Annotated[list[str] | None, typer.Option(help="Only clients with this word; repeatable.")] = None,
) -> None:
    """Let Google's own clients call the local cloud, and judge every answer."""
    with told():
        raise typer.Exit(0 if conformance.run(only or ()) else 1)


@app.command("lock")
def compile_locks() -> None:
    """Compile the hash-pinned locks from the pyproject files."""
    with told():
        locks.compile_all()


@app.command("clean")
def clean() -> None:
    """End everything and remove images and all of `.local` but the tools that run this."""
    with told():
        stack.clean()


@engine_app.command("up")
def engine_up() -> None:
    """Find a Docker engine, or start a private one."""
    with told(), step("Docker engine") as current:
        current.note = engine.up().host


@engine_app.command("down")
def engine_down() -> None:
    """End the private engine and what it changed on the machine."""
    with told(), step("Docker engine ended") as current:
        current.note = "private" if engine.down() else "there was none of ours"


@cluster_app.command("build")
def cluster_build() -> None:
    """Compile etcd, kube-apiserver, kube-controller-manager and kubectl."""
    with told(), step("control plane built") as current:
        current.note = "compiled" if cluster.CONTROL_PLANE.build() else "unchanged"


@cluster_app.command("up")
def cluster_up() -> None:
    """Start the control plane."""
    cluster_build()
    with told(), step("control plane") as current:
        cluster.up(MAIN)
        current.note = str(MAIN.kubeconfig)


@cluster_app.command("down")
def cluster_down() -> None:
    """End the control plane and forget its data."""
    with told(), step("control plane ended"):
        cluster.down(MAIN)
        cluster.forget(MAIN)


if __name__ == "__main__":
    app()
