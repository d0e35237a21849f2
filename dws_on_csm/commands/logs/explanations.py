"""What an entry means that does not say so itself, and entries that say nothing. Pure."""

from __future__ import annotations

import re

from dws_on_csm.commands.logs.entries import Entry

_NOISE = re.compile(r"\bcontrollers\.Workflow\s+Reconciling Workflow\b")
"""DWS's controller logs this each time that it reads a Workflow, whether or not it does anything."""

_LEFT = re.compile(
    r"error: .*?slurm_bb_job_teardown\(\), workflow=bb(\d+): (?!unable to check)(?:.*?DWS driver error\(s\):)?(.*)",
    re.DOTALL,
)
"""The plugin ends its teardown at an error, and deletes the Workflow all the same. It names the errors of Teardown's drivers: where
it names none, it has read the status of the former state (plugin 0.0.5)."""

_CAPACITY = "Must specify pool with capacity"
"""What Slurm's burst_buffer/lua logs before it refuses a job (seen on 24.11)."""


def is_noise(entry: Entry) -> bool:
    """Whether an entry says nothing about any Workflow."""
    return bool(_NOISE.search(entry.text.partition("\n")[0]))


def explanation(entry: Entry) -> str:
    """What an entry means for storage or for users, and what to do; "" for most entries."""
    left = _LEFT.search(entry.text)
    if left and "not found" not in left[2]:  # else somebody else deleted it
        number, error = left[1], left[2].strip()
        why = "although its Teardown has failed" if error else "before any storage driver ran its Teardown"
        return (
            f"the plugin deletes Workflow bb{number} {why}: storage of job {number} may be left. Ask those who run the storage "
            "driver whose error is in these entries"
        )
    if _CAPACITY in entry.text:
        return (
            "Slurm itself refused this job, before the plugin saw it: at the top of a script it takes `capacity=` in a #DW line "
            "as a request to a pool of its own, and the plugin has none (docs/when-it-fails.md, capacity)"
        )
    return ""
