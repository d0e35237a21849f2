"""A site on which faults are made: its lab, its site file, the states of its controllers and of two jobs of users."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cluster, layers, machine, snapshot, ssh
from lab.model import Lab
from tests.lab import outside, scene
from tests.lab.damages import LEFT, Damage
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.waits import until

CONTROLLERS = (PRIMARY, BACKUP)
KILL_API_SERVER = "systemctl kill --signal=KILL kube-apiserver"
START_API_SERVER = "systemctl start kube-apiserver"
_FIELDS = re.compile(r"(?:JobId|JobState|Restarts)=\S*")
_SUBMITTED = "cd /tmp && runuser -u joe -- sbatch --parsable --partition=work --ntasks=1 --time=60 --output=/dev/null"


@dataclass(frozen=True)
class World:
    """A lab, and the site file that runs are given: the lab's own with the settings of the matrix."""

    lab: Lab
    site: Path

    def on(self, host: str, command: str, feed: str = "", deadline: float = 240) -> str:
        """A shell command on a host, as root; its output. RuntimeError has what it printed if it fails."""
        return ssh.run(self.lab, host, command, feed, deadline)

    def damage(self, damages: Sequence[Damage]) -> None:
        """Damage what the next run corrects."""
        for host, command in damages:
            self.on(host, command)

    def slurm_conf(self, host: str) -> str:
        """slurm.conf on a host."""
        return self.on(host, "cat /etc/slurm/slurm.conf")

    def left_over(self) -> list[str]:
        """What runs have left aside on the hosts where they work."""
        found = scene.everywhere(self.lab, LEFT, MASTER, *CONTROLLERS)
        return [f"{host}: {path}" for host, paths in found.items() for path in paths.split()]

    def cable(self, name: str, state: str) -> None:
        """Pull the cable of a host ("down"), or put it back ("up")."""
        outside.cable(self.lab, self.lab.host(name), state)

    def boot(self, name: str) -> None:
        """Boot a host that has lost its power, as it was; nothing where it runs."""
        host = self.lab.host(name)
        if not machine.running(self.lab, host):
            machine.kill(self.lab, host)  # what its end has left of its network
            layers_of_host = snapshot.layer(self.lab, host) + layers.stack(self.lab, host)
            machine.wait_for_ssh(self.lab, {host: machine.boot(self.lab, host, layers_of_host)})
            self.settle()

    def settle(self) -> None:
        """Wait until the cluster's nodes and both slurmctlds respond; jobs may run, and pods may need longer."""
        cluster.wait_for_nodes(self.lab, None)
        until(self.on, PRIMARY, "scontrol ping >/run/ping; cat /run/ping; [ $(grep -c 'is UP' /run/ping) = 2 ]", 180)


@dataclass(frozen=True)
class Jobs:
    """Two jobs of a user: the first runs until it is let go, the second waits for the first."""

    world: World
    running: str
    pending: str

    def states(self) -> list[list[str]]:
        """Of each job: its number, its state, how often it was started again."""
        said = [self.world.on(PRIMARY, f"scontrol -o show job {job}") for job in (self.running, self.pending)]
        return [_FIELDS.findall(text) for text in said]

    def finish(self) -> None:
        """Let them go, and wait until both have ended well. RuntimeError with their states when one has not."""
        scene.everywhere(self.world.lab, f"touch /tmp/go-{self.running}", "nid000001", "nid000002")
        for job in (self.running, self.pending):
            until(
                self.world.on,
                PRIMARY,
                f"scontrol -o show job {job} >/run/job; cat /run/job; grep -q JobState=COMPLETED /run/job",
            )


def submitted(world: World) -> Jobs:
    """Two new jobs; returns when the first one runs."""
    wait = "until [ -e /tmp/go-$SLURM_JOB_ID ]; do sleep 0.5; done"
    running = world.on(PRIMARY, f"{_SUBMITTED} --wrap='{wait}'").strip()
    pending = world.on(PRIMARY, f"{_SUBMITTED} --dependency=afterok:{running} --wrap=true").strip()
    until(world.on, PRIMARY, f"scontrol -o show job {running} | grep -q JobState=RUNNING")
    return Jobs(world, running, pending)
