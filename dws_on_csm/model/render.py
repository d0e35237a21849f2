"""Make scripts and files from templates/. Each template is a valid program itself; its settings are put in front of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


@cache
def read(name: str) -> str:
    """The text of a template, as it was when it was first read: scripts of one run fit each other."""
    return (TEMPLATES / name).read_text()


def script(*names: str, **settings: str) -> str:
    """A script: assignments of the (quoted) `settings`, then the shell templates `names`, each after those that it needs."""
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
    return assignments + "\n".join(read(name) for name in dict.fromkeys(_with_needs(names)))


NEEDS = {
    "lib/as.sh": ("lib/bounded.sh",),
    "lib/slurm_conf.sh": ("lib/as.sh",),
    "lib/slurmctld.sh": ("lib/as.sh", "lib/slurm_conf.sh", "lib/own_state.sh"),
    "controller/activate.sh": ("lib/durable.sh",),
    "controller/controller.sh": ("controller/conf_path.sh",),
    "host/saved_kubeconfigs.sh": ("lib/key_fits.sh",),
    "master/lock.sh": ("lib/durable.sh", "master/lock_holder.sh"),
}
"""Template -> the templates whose functions it calls."""


def _with_needs(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from _with_needs(NEEDS.get(name, ()))
        yield name


def fill(template: str, /, **values: str) -> str:
    """The template with each $NAME replaced by its value, unquoted. KeyError for a name without a value."""
    return Template(read(template)).substitute(values)
