"""The users of a site: they submit jobs with #DW lines all the while, whatever the administrator does."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field

from tests.lab.scene import MASTER, PRIMARY
from tests.lab.waits import until_silent
from tests.lab.world import World

AT_ONCE = 6
"""So many jobs of users are waiting or running at most."""
_SUBMIT = "cd /tmp && timeout 60 runuser -u joe -- sbatch --parsable --partition=work --time=60 --output=/dev/null"
_STATES = re.compile(r"JobId=(\d+) .*?JobState=(\S+)")
WORKFLOWS = "kubectl get workflows.dataworkflowservices.github.io --all-namespaces --output name 2>&1"


@dataclass
class Users:
    """Jobs of users, submitted by a thread of their own.

    states   the number of each job that Slurm took -> its last state
    refused  the last words of each sbatch that was refused
    """

    world: World
    seed: int
    states: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._work, self._end = threading.Event(), threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._submit, name="users")

    def __enter__(self) -> Users:
        self._work.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._work.set()
        self._thread.join(timeout=200)

    def pause(self) -> None:
        """Submit nothing more; returns when all jobs are over and their Workflows are gone. RuntimeError if some stay."""
        self._idle.clear()
        self._work.clear()
        if not self._idle.wait(200):
            raise RuntimeError("a user's sbatch does not return")
        until_silent(self.world.on, PRIMARY, "squeue --noheader --user=joe --format='%i %T %r' 2>&1", 240)
        self.look()
        until_silent(
            self.world.on, MASTER, f"{WORKFLOWS} | grep -v -e 'No resources' -e 'have a resource type' || true", 120
        )

    def resume(self) -> None:
        """Submit jobs again."""
        self._work.set()

    def look(self) -> None:
        """Ask Slurm for the states of all jobs: it forgets those that ended an hour ago."""
        told = self.world.on(PRIMARY, "scontrol --oneliner show jobs")
        self.states |= {job: state for job, state in _STATES.findall(told) if job in self.states}

    def lost(self) -> list[str]:
        """The jobs that Slurm took and did not complete: "NUMBER STATE"."""
        return [f"{job} {state}" for job, state in self.states.items() if state != "COMPLETED"]

    def _submit(self) -> None:
        choose = random.Random(self.seed)  # noqa: S311 - a choice of tests
        while not self._end.is_set():
            if not self._work.is_set():
                self._idle.set()
                self._work.wait(1)
                continue
            try:
                self._submit_one(choose)
            except (RuntimeError, OSError) as error:
                self.broken.append(str(error))
            self._end.wait(choose.uniform(2, 6))
        self._idle.set()

    def _submit_one(self, choose: random.Random) -> None:
        waiting = self.world.on(PRIMARY, "squeue --noheader --user=joe --format=%i 2>/dev/null | wc -l").strip()
        if int(waiting) >= AT_ONCE:
            return
        job = f"#!/bin/sh\n#DW\nsleep {choose.randint(1, 12)}\n"
        said = self.world.on(PRIMARY, f"{{ {_SUBMIT}; }} 2>&1 || echo refused", job).strip().splitlines()
        if said and said[-1].isdecimal():
            self.states[said[-1]] = "PENDING"
        else:
            self.refused.append(" ".join(said[-3:]))
