"""DWS takes new objects again, after a removal that was killed while it had closed DWS (see storage.CLOSING)."""

from __future__ import annotations

from fabfile.actions import Sh
from fabfile.stages import storage
from fabfile.step import Api, Stage, Step

COMMAND = f"kubectl --request-timeout=60s delete validatingwebhookconfiguration {storage.CLOSED} --ignore-not-found"

# A script on the master, and no call of the API: it waits for the removal's own script, and does not begin while that works
# (see script.LIBRARY). It may still be there when whoever began it is gone, and needs DWS closed to its end.
STEP = Step(
    "open",
    "master",
    lambda place: Api(lambda cluster: "closed" if cluster.get(storage.CLOSED_PATH) else "open"),
    lambda place: "open",
    lambda place, have, want: [Sh("open DWS again", COMMAND, objects=(storage.CLOSED_PATH,))],
)

STAGE = Stage("open", ("preflight",), (STEP,))
"""For a run that does nothing else about DWS."""
