"""The commands of `python -m dev`; the Makefile is the way in for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from dev import cluster, engine, images, paths
from dev.errors import DevError
from dev.progress import step

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
engine_app = typer.Typer(no_args_is_help=True, help="The Docker engine alone.")
app.add_typer(engine_app, name="engine")
cluster_app = typer.Typer(no_args_is_help=True, help="The Kubernetes control plane alone.")
app.add_typer(cluster_app, name="cluster")


@contextmanager
def told() -> Iterator[None]:
    """Errors for people end the program with their sentence."""
    try:
        yield
    except DevError as error:
        print(f"\n{error}", file=sys.stderr)
        raise typer.Exit(1) from error


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
    with told(), paths.locked("go"), step("control plane built") as current:
        current.note = "compiled" if cluster.build() else "unchanged"


@cluster_app.command("up")
def cluster_up() -> None:
    """Start the control plane."""
    with told():
        cluster_build()
        with step("control plane") as current:
            cluster.up(paths.MAIN)
            current.note = str(paths.MAIN.kubeconfig)


@cluster_app.command("down")
def cluster_down() -> None:
    """End the control plane and forget its data."""
    with told(), step("control plane ended"):
        cluster.down(paths.MAIN)
        cluster.forget(paths.MAIN)


@app.command("images")
def build_images() -> None:
    """Build the images that changed."""
    with told(), paths.locked("build"):
        docker = engine.up()
        with step("images") as current:
            current.note = ", ".join(images.build(docker)) or "unchanged"


if __name__ == "__main__":
    app()
