"""What a controller is like while others work on it: every text that slurm.conf had, and when slurmctld answered."""

import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from lab.model import Lab

OURS = (
    "BurstBufferType=burst_buffer/lua",
    "# set by dws-on-csm: jobs with #DW lines get a Workflow from DataWorkflowServices",
)
"""The lines that an install adds to slurm.conf."""


def not_ours(text: str) -> list[str]:
    """The lines of a text of slurm.conf without those of an install."""
    return [line for line in text.splitlines() if line not in OURS]


# Both end with their standard input, after a last look. The first reads by bash's own means: nothing is started for a look.
_TEXTS = r"""bash -c '
last=
while :; do
    IFS= read -r -d "" text 2>/dev/null </etc/slurm/slurm.conf || [ -n "$text" ] || text=absent
    if [ "$text" != "$last" ]; then printf "%s\0" "$text"; last=$text; fi
    [ -z "$over" ] || exit 0
    read -r -t 0.02; [ $? -gt 128 ] || over=yes
done'"""
_ANSWERS = r"""bash -c '
while :; do
    process=$(systemctl show -p MainPID --value slurmctld)
    echo "$EPOCHREALTIME ${process:-0} $(timeout 20 scontrol ping | grep -c "at $(uname -n) is UP")"
    [ -z "$over" ] || exit 0
    read -r -t 1; [ $? -gt 128 ] || over=yes
done'"""


@dataclass(frozen=True)
class Sample:
    """One look at slurmctld: when, its process, whether it answered."""

    at: float
    process: int
    up: bool


@dataclass(frozen=True)
class Gap:
    """slurmctld did not answer for so many seconds; `restarted`: it was another process afterwards."""

    seconds: float
    restarted: bool


@dataclass
class Watched:
    """What was seen of a controller; complete once it is no longer watched."""

    texts: Sequence[str] = ()
    samples: Sequence[Sample] = ()

    def longest_pause(self) -> float:
        """Seconds between two looks at slurmctld, at most; infinite where there were not two. A look takes 20 s at most."""
        return max((after.at - before.at for before, after in pairwise(self.samples)), default=math.inf)

    def gaps(self) -> list[Gap]:
        """The times without an answer, each from the last answer before to the first one after."""
        up = [sample for sample in self.samples if sample.up]
        between = pairwise(self.samples)
        ends = {after.at for before, after in between if not before.up and after.up}
        pairs = pairwise(up)
        return [
            Gap(after.at - before.at, before.process != after.process) for before, after in pairs if after.at in ends
        ]


def _rest(process: subprocess.Popen[bytes]) -> bytes:
    """What a watch said since; of a host that is gone, all that came from there."""
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


@contextmanager
def watched(lab: Lab, host: str) -> Iterator[Watched]:
    """Watches a controller while the `with` lasts."""
    found = Watched()
    ssh = ["ssh", "-F", str(lab.state / "ssh_config"), host]

    def start(script: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*ssh, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with start(_TEXTS) as texts, start(_ANSWERS) as answers:
        watching = (texts, answers)
        # A first look is through before anything is done.
        first = [os.read(process.stdout.fileno(), 1 << 16) for process in watching if process.stdout]
        yield found
        rest = [_rest(process) for process in watching]
    said = [(before + after).decode() for before, after in zip(first, rest, strict=True)]
    found.texts = said[0].split("\0")[:-1]
    rows = (line.split() for line in said[1].split("\n")[:-1])  # of a host that ended, the last line may be half a line
    found.samples = [Sample(float(at), int(process), up == "1") for at, process, up in rows]
