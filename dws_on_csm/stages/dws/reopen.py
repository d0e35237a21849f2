"""DWS takes new objects again, where a run has closed it (see persistent_storage.CLOSING), also one that was killed since."""

from __future__ import annotations

import inspect

from dws_on_csm.domain import dws_objects
from dws_on_csm.model import render
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.step import ApiLook, Stage, Step
from dws_on_csm.stages.dws import persistent_storage

COMMAND = f"kubectl --request-timeout=60s delete validatingwebhookconfiguration {persistent_storage.CLOSED} --ignore-not-found"

# A script on the master, and no call of the API: it waits for the removal's own script, and does not begin while that works
# (see host_script.LIBRARY). It may still be there when whoever began it is gone, and needs DWS closed to its end.
STEP = Step(
    "open",
    "master",
    lambda ctx: ApiLook(lambda cluster: "closed" if cluster.get(persistent_storage.CLOSED_PATH) else "open"),
    lambda ctx: "open",
    # what is closed for a while is no state of the site: no rollback brings it back
    lambda ctx, have, want: [RunScript("open DWS again", COMMAND)],
    hint="until it is open sbatch refuses jobs with #DW: a new run opens it, and so does "
    f"kubectl delete validatingwebhookconfiguration {persistent_storage.CLOSED}",
)

STAGE = Stage("open", ("preflight",), (STEP,))
"""For a run that does nothing else about DWS."""


PROGRAM = f"{inspect.getsource(dws_objects)}\n{render.read('master/closing.py')}\n"
"""What closes DWS, for the master's Python; more may follow."""
