"""Whether slurmctld can look up the test job's user, who may be known on the login host alone.

Slurm writes the user's names and groups into the job's credential (slurm_cred_create in Slurm's src/interfaces/cred.c), unless
LaunchParameters says otherwise. Slurm 24.11 fails to launch the job of a user whom it cannot look up, and responds no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.model.step import Check, Constant, Finding, Look, NotYetKnown, StepContext, Value
from dws_on_csm.stages import verify
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import controller

_LOOK = 'if find_account "$user"; then echo known; else echo unknown; fi\n'


def _look(ctx: StepContext) -> Look:
    if not verify.login_host(ctx.site):
        return Constant("known")  # the check `user` asks there
    return verify.shell_look(ctx, _LOOK, lambda out: out.decode(errors="replace").strip())


def _judge(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    if answer == "known":
        return ()
    state = ctx.facts.known(CONTROLLER).get(ctx.host)
    if state is None:
        raise NotYetKnown("preflight")
    parameters = controller.setting(state["files"], ctx.site, "LaunchParameters")
    words = parameters.value.lower() if parameters else ""
    if "disable_send_gids" in words and "enable_nss_slurm" not in words:
        return ()
    user = ctx.site.test_job.user
    text = f"slurmctld on {ctx.host} cannot look up {user}, the test job's user: it fails to launch the job, and may then hang"
    fix = f"make `getent passwd {user}` work there, or set test_job.user in the site file to a user whom it knows"
    return (Finding("test-user-unknown", text, fix),)


CHECK = Check("job-user", "controller", _look, _judge)
