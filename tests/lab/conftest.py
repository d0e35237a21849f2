"""The cluster in a box that these tests run on: one lab a worker, named "test" or as LAB_NAME says ("test-1" is the second's).

LAB_KEEP=1 leaves it up at the end, so that the next run begins with a reset, or anew if lab/ has changed.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from lab import lifecycle, registry, snapshot, ssh
from lab.model import Lab, Options
from tests.conftest import RUN

On = Callable[..., str]


def announce(text: str) -> None:
    """Says what the lab is doing; pytest shows it when a test fails."""
    print(text, flush=True)  # noqa: T201 - pytest captures it


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """A pristine site, there until this worker goes on to what needs none."""
    yield from brought_up(os.environ.get("LAB_NAME", "test"), Options())


@pytest.fixture(scope="module")
def pod_lab() -> Iterator[Lab]:
    """A site whose slurmctld runs in a pod, pristine at first; its name is "pod". It is there for one file of tests alone:
    a third lab would take its time from the two that are there anyway."""
    yield from brought_up("pod", Options(slurmctld_pod=True))


def brought_up(name: str, options: Options) -> Iterator[Lab]:
    """This worker's lab of that name, pristine; ended after the run unless LAB_KEEP is set."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    name += "" if worker == "0" else f"-{worker}"
    # A run that was cut off may not have ended yet.
    with registry.locked(f"{registry.folder(name)} for tests"):
        made = registry.create(name, options)
        if snapshot.taken(made) and not lifecycle.current(made):
            lifecycle.down(made)
            made = registry.create(name, options)
        kept = bool(os.environ.get("LAB_KEEP"))
        if not kept:
            mark(made)
        (lifecycle.reset if snapshot.taken(made) else lifecycle.up)(made, announce)
        yield made
        if not kept:
            lifecycle.down(made)


def mark(lab: Lab) -> None:
    """Says that a lab goes with this run, whatever becomes of the worker that it is for."""
    (lab.state / "run").write_text(os.environ[RUN])


@pytest.fixture
def pristine_lab(lab: Lab) -> Lab:
    """The site as it was before anything was done to it."""
    lifecycle.reset(lab, announce)
    return lab


@pytest.fixture(scope="package")
def on(lab: Lab) -> On:
    """on(HOST, COMMAND, feed="", deadline=60): a shell command there as root, through ssh; its output."""

    def run(host: str, command: str, feed: str = "", deadline: float = 180) -> str:
        return ssh.run(lab, host, command, feed, deadline)

    return run
