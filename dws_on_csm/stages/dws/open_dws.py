"""DWS is reopened: its API accepts new objects again after a run closed it (see closing.py)."""

from __future__ import annotations

import inspect

from dws_on_csm.domain import dws_objects
from dws_on_csm.model import render, stage_names
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.step import ApiLook, Stage, Step
from dws_on_csm.stages.dws import closing

COMMAND = f"kubectl --request-timeout=60s delete validatingwebhookconfiguration {closing.NAME} --ignore-not-found"

# A script on the master, not a call of the API: so it waits until the removal's own script has ended (see host_script.LIBRARY).
# That script may outlive the run that began it, and needs DWS closed until its end.
STEP = Step(
    "open",
    "master",
    lambda ctx: ApiLook(lambda cluster: "closed" if cluster.get(closing.PATH) else "open"),
    lambda ctx: "open",
    # no `objects`: closed is not a state of the site, and no rollback restores it
    lambda ctx, have, want: [RunScript("reopen DWS", COMMAND)],
    hint="DWS may still be closed, so that sbatch rejects #DW jobs. Run the same command again, or reopen DWS with "
    f"kubectl delete validatingwebhookconfiguration {closing.NAME}",
)

STAGE = Stage(stage_names.OPEN, ("preflight",), (STEP,))
"""For a run that changes nothing else of DWS."""


PROGRAM = f"{inspect.getsource(dws_objects)}\n{render.read('master/closing.py')}\n"
"""The text of the program that closes DWS, for the master's Python; more text may follow it."""
