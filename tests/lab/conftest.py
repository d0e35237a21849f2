"""The cluster in a box that these tests run on: one lab for a whole run, named "test" or as LAB_NAME says.

LAB_KEEP=1 leaves it up at the end, so that the next run begins with a reset, or anew if lab/ has changed.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from lab import access, labs, pristine, site
from lab.model import Lab, Options

On = Callable[..., str]


def announce(text: str) -> None:
    """Says what the lab is doing; pytest shows it when a test fails."""
    print(text, flush=True)  # noqa: T201 - pytest captures it


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A pristine site."""
    yield from _brought_up(os.environ.get("LAB_NAME", "test"), Options())


@pytest.fixture(scope="session")
def pod_lab() -> Iterator[Lab]:
    """A site whose slurmctld runs in a pod, pristine at first; its name is "pod", beside the other."""
    yield from _brought_up("pod", Options(slurmctld_pod=True))


def _brought_up(name: str, options: Options) -> Iterator[Lab]:
    """The lab of that name, pristine; ended after the run unless LAB_KEEP is set."""
    made = labs.create(name, options)
    if pristine.taken(made) and not site.current(made):
        site.down(made)
        made = labs.create(name, options)
    (site.reset if pristine.taken(made) else site.up)(made, announce)
    yield made
    if not os.environ.get("LAB_KEEP"):
        site.down(made)


@pytest.fixture
def pristine_lab(lab: Lab) -> Lab:
    """The site as it was before anything was done to it."""
    site.reset(lab, announce)
    return lab


@pytest.fixture(scope="session")
def on(lab: Lab) -> On:
    """on(HOST, COMMAND, feed="", deadline=60): a shell command there as root, through ssh; its output."""

    def run(host: str, command: str, feed: str = "", deadline: float = 60) -> str:
        return access.run(lab, host, command, feed, deadline)

    return run
