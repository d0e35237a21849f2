"""What is running on the master: a run that holds the site's lock, or a command that one has left."""

from __future__ import annotations

from dws_on_csm.engine import site_lock
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.step import Check, Fact

FACT: Fact[str] = Fact("doctor", "at-work")
"""What is running on the master, in words; "" for nothing."""

RUNNING_SCRIPT = f"""
cd {STATE} 2>/dev/null || exit 0
{render.script("master/lock_holder.sh", hold=str(site_lock.LEASE_SECONDS), proc=site_lock.PROC)}
count
end=$(lock_end)
if [ -e lock/holder ] && [ "${{end:-$until}}" -gt "$up" ]; then line 3; fi
[ ! -e busy ] || flock -n busy true || printf 'a command of run %s\\n' "$(cat busy)"
"""


def parse_running(out: bytes) -> str:
    """What runs on the master, in words; "" for nothing."""
    return ", ".join(out.decode(errors="replace").split("\n")).rstrip(", ")


CHECK = Check(FACT.step, "master", lambda ctx: FACT.shell(RUNNING_SCRIPT, parse_running), lambda ctx, have: ())
"""Without findings: other checks ask whether something is at work."""
