"""A host as the doctor sees it, with what is known of it, and the names of findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Facts, Finding, StepContext

SITE = load(DEFAULT)

MASTER, HOST = SITE.master.host.name, SITE.controllers[0].name


def place(host: str = HOST, **found: Any) -> StepContext:
    """A host and its state: `slurm_daemon={...}` is slurm.daemon."""
    return StepContext(SITE, Facts({key.replace("_", ".", 1): {host: value} for key, value in found.items()}), host)


def told(found: Iterable[Finding]) -> list[str]:
    every = list(found)
    assert all(one.text and one.fix for one in every)
    return [one.name for one in every]
