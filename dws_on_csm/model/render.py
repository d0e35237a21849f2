"""Scripts and files made from templates/: a template is valid as it stands, and its settings go before it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def read(name: str) -> str:
    """The template's text as it stands."""
    return (TEMPLATES / name).read_text()


def script(*names: str, **settings: str) -> str:
    """The shell templates `names` one after the other, behind the assignments of `settings` (quoted); what one needs goes
    before it."""
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
    return assignments + "\n".join(read(name) for name in dict.fromkeys(_whole(names)))


NEEDS = {
    "lib/as.sh": ("lib/bounded.sh",),
    "lib/slurm_conf.sh": ("lib/as.sh",),
    "lib/slurmctld.sh": ("lib/as.sh", "lib/slurm_conf.sh"),
    "controller/activate.sh": ("lib/written.sh",),
    "master/lock.sh": ("lib/written.sh", "master/lock_holder.sh"),
}
"""Template -> those whose functions it calls wherever it is used."""


def _whole(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from _whole(NEEDS.get(name, ()))
        yield name


def fill(template: str, /, **values: str) -> str:
    """The template with each $NAME replaced by its value, which goes in as it is. KeyError for a name without one."""
    return Template(read(template)).substitute(values)
