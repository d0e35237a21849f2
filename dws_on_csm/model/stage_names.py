"""The names of stages that runs, records and reports treat apart. Records of earlier runs have nothing but the names."""

from __future__ import annotations

CONNECT = "connect"
"""No stage of a procedure: how the hosts were reached."""
RUN = "run"
"""No stage of a procedure: the run as a whole."""
PREFLIGHT = "preflight"
VERIFY, CANCEL = "verify", "cancel"
CLOSE, OPEN = "close", "open"

READING = (CONNECT, PREFLIGHT, RUN)
"""Stages that change nothing."""
PROOFS = (VERIFY, CANCEL)
"""Stages that prove the installation: what they change ends with them."""
PASSING = (CLOSE, OPEN)
"""Stages whose changes end with their run: one takes back what the other did."""


def leaves_nothing(stage: str) -> bool:
    """Whether no change by a stage of this name outlasts its run."""
    return stage in (*READING, *PROOFS, *PASSING)
