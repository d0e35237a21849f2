"""slurmctld's pod, as somebody on the master reaches it."""

import shlex

from lab import ssh
from lab.model import Lab

MASTER = "ncn-m001"
POD = "--namespace=user deployment/slurmctld"
RESTART = f"kubectl rollout restart {POD} && kubectl rollout status --timeout=120s {POD}"
"""What gives slurmctld a new pod, and ends when that one answers."""


def run(lab: Lab, command: str, user: str = "root", feed: str = "", deadline: float = 180) -> str:
    """What a shell command prints in the container, run as `user` in /tmp; RuntimeError shows what it said if it fails."""
    inside = shlex.join(["runuser", "-u", user, "--", "sh", "-c", f"cd /tmp && {command}"])
    return ssh.run(lab, MASTER, f"kubectl exec -i {POD} --container=slurmctld -- {inside}", feed, deadline)
