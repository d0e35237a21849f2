"""Calls to the API server as the plugin makes them, one after the other while others change what they depend on."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.model import Lab
from tests.lab.scene import BACKUP, PRIMARY

KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
KUBECTL = (
    "setpriv --reuid slurm --regid slurm --init-groups env HOME=/nonexistent"
    " kubectl --cache-dir /tmp/burst_buffer_kubectl_cache --kubeconfig"
)
"""How slurmctld's plugin calls it; a kubeconfig and a command follow."""
GET = "get workflows.v1alpha2.dataworkflowservices.github.io --output=name"

# It ends with its standard input.
_LOOP = f"""bash -c '
while :; do
    if said=$({KUBECTL} {KUBECONFIG} {GET} 2>&1); then echo ok; else echo "$EPOCHREALTIME $said"; fi
    read -r -t 0.05; [ $? -gt 128 ] || exit 0
done'"""


@dataclass
class Calls:
    """What came of the calls; complete when the `with` is over."""

    made: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def plugin_calls(lab: Lab) -> Iterator[Calls]:
    """One call after the other on each controller while the `with` lasts."""
    calls = Calls()
    ssh = ["ssh", "-F", str(lab.state / "ssh_config")]
    loops = {
        subprocess.Popen([*ssh, host, _LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True): host
        for host in (PRIMARY, BACKUP)
    }
    try:
        yield calls
    finally:
        said = {loop: loop.communicate(timeout=60)[0] for loop in loops}
    for loop, host in loops.items():
        lines = said[loop].splitlines()
        calls.made += len(lines)
        calls.failed += [f"{host}: {line}" for line in lines if line != "ok"]
        assert loop.returncode == 0, (host, loop.returncode)
    print(f"{calls.made} calls, {len(calls.failed)} failed")  # noqa: T201 - pytest shows it on demand
