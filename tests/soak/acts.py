"""What an administrator does, and what happens to a site, in a day of `make soak`."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import damages, product
from tests.lab.damages import THEN, Damage
from tests.lab.product import Answer, Running
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.trials import CONVERGES, UNEXPECTED
from tests.lab.world import KILL_API_SERVER, START_API_SERVER, World
from tests.soak.users import Users

Failures = Iterator[str]
"""A sentence for each check that failed."""


@dataclass
class Day:
    """A site with its users, in the hands of an administrator: the site file of each version of DWS, and the one in use."""

    world: World
    users: Users
    sites: Mapping[str, Path]
    choose: random.Random
    version: str
    codes: list[int] = field(default_factory=list)

    @property
    def site(self) -> Path:
        """The site file of the version in use."""
        return self.sites[self.version]

    def run(self, command: str, *options: str) -> Answer:
        """A command on this site, with --yes and --json, to its end."""
        done = product.invoke(command, f"--hosts={self.site}", "--json", *options, deadline=CONVERGES)
        self.codes.append(done.code)
        return done

    def installs(self) -> Failures:
        """An install, which has to end well."""
        yield from ended(self.run("install", "--yes"), "install")


def ended(answer: Answer, command: str, *codes: int) -> Failures:
    """What is wrong with how a command ended, where it may end with 0 and these exit codes."""
    if answer.code not in (0, *codes):
        yield f"{command} ended with {answer.code}: {answer.told[-2500:]}"
    if "Traceback" in answer.err:
        yield f"{command}: a traceback: {answer.err[-2500:]}"


HARMLESS: Mapping[str, Sequence[Damage]] = {
    "the clone is gone": (damages.NO_CLONE,),
    "kustomize is gone": (damages.NO_KUSTOMIZE,),
    "the registry lost the images": damages.NO_IMAGES,
    "the backup lost the plugin": (damages.NO_PLUGIN,),
    "the backup lost its kubeconfig": damages.NO_KUBECONFIG[1:],
    "the backup lost its line": damages.DISABLED[1:],
    "the kubeconfig's mode was changed": ((PRIMARY, f"{THEN} chmod 640 {damages.KUBECONFIG}"),),
    "a pod of the webhook was scaled away": (
        (MASTER, f"{THEN} kubectl -n dws-system scale deployment dws-webhook --replicas=2"),
    ),
    "the proof is gone": (damages.NO_PROOF,),
}
"""Damages, by accident or by somebody's hand, while jobs of users continue."""


def _again(day: Day) -> Failures:
    yield from day.installs()


def _drift(day: Day) -> Failures:
    name = day.choose.choice(sorted(HARMLESS))
    day.world.damage(HARMLESS[name])
    yield from (f"{name}: {sentence}" for sentence in day.installs())


def _verify(day: Day) -> Failures:
    yield from ended(day.run("verify"), "verify")


def _doctor(day: Day) -> Failures:
    yield from ended(day.run("doctor"), "doctor")


def _rotate(day: Day) -> Failures:
    yield from ended(day.run("certs.rotate"), "certs.rotate")


def _replace(day: Day) -> Failures:
    day.version = day.choose.choice(sorted(set(day.sites) - {day.version}))
    yield from (f"to {day.version}: {sentence}" for sentence in day.installs())


def _undeploy(day: Day) -> Failures:
    yield from ended(day.run("undeploy", "--yes"), "undeploy")
    yield from day.installs()


def _rollback(day: Day) -> Failures:
    answer = day.run("rollback", "--yes")
    yield from ended(answer, "rollback", 3)
    if answer.code == 3 and not answer.failures() and not answer.summary.get("message"):
        yield "rollback was refused without a word"
    yield from day.installs()


def _signal(number: int) -> Callable[[Day, Running], None]:
    return lambda day, run: run.process.send_signal(number)


def _cut(name: str) -> Callable[[Day, Running], None]:
    def strike(day: Day, run: Running) -> None:
        day.world.cable(name, "down")
        try:
            time.sleep(day.choose.uniform(3, 12))  # the cable is out for so long
        finally:
            day.world.cable(name, "up")

    return strike


def _server_killed(day: Day, run: Running) -> None:
    day.world.on(MASTER, f"{KILL_API_SERVER}; {START_API_SERVER}")


STRIKES: Mapping[str, Callable[[Day, Running], None]] = {
    "killed": _signal(signal.SIGKILL),
    "interrupted": _signal(signal.SIGINT),
    "terminated": _signal(signal.SIGTERM),
    "the master's cable pulled": _cut(MASTER),
    "the backup's cable pulled": _cut(BACKUP),
    "the API server killed": _server_killed,
}


def _struck(day: Day) -> Failures:
    """Something differs, and the install that corrects it is struck at any moment; the next one has to end well."""
    name, strike = day.choose.choice(sorted(HARMLESS)), day.choose.choice(sorted(STRIKES))
    after = day.choose.uniform(0.5, 8)
    day.world.damage(HARMLESS[name])
    with Running("install", f"--hosts={day.site}", "--yes", "--json") as run:
        time.sleep(after)  # the moment itself
        STRIKES[strike](day, run)
        day.codes.append(run.end(CONVERGES).code)
    day.world.settle()
    yield from (f"{name}, {strike} after {after:.1f} s: {sentence}" for sentence in day.installs())


@dataclass(frozen=True)
class Act:
    """Something that happens in a day.

    often  how often, against the others
    quiet  DWS is removed for a moment: an administrator first waits until no job needs it
    """

    name: str
    often: int
    do: Callable[[Day], Failures]
    quiet: bool = False


ACTS = (
    Act("install again", 2, _again),
    Act("drift", 5, _drift),
    Act("struck", 6, _struck),
    Act("verify", 2, _verify),
    Act("doctor", 1, _doctor),
    Act("rotate", 2, _rotate),
    Act("another version", 2, _replace, quiet=True),
    Act("undeploy", 1, _undeploy, quiet=True),
    Act("rollback", 1, _rollback, quiet=True),
)


def done(day: Day, act: Act) -> list[str]:
    """Do it; the checks that failed, also an error that nobody expected."""
    try:
        if act.quiet:
            day.users.pause()
        failures = list(act.do(day))
    except UNEXPECTED as error:
        failures = [f"{type(error).__name__}: {error}"]
    finally:
        day.users.resume()
    return failures
