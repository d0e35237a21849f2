"""A run that is cut off at any moment is mended by the next one, and slurmctld knows nothing of it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from lab.model import Lab
from tests.lab import product, scene
from tests.lab.conftest import On
from tests.lab.damages import (
    DISABLED,
    LEFT,
    NO_CLONE,
    NO_DEPLOYMENTS,
    NO_IMAGES,
    NO_KUBECONFIG,
    NO_KUSTOMIZE,
    NO_PLUGIN,
    NO_PROOF,
    Damage,
)
from tests.lab.product import Record, Running
from tests.lab.sample import sample
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.lab.waits import until_silent
from tests.lab.watch import Watched, not_ours, watched

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

Moment = tuple[str, str, str, float, tuple[Damage, ...]]
"""Kind of event, host, step, seconds after it, and what is damaged beforehand, and where, so that a run comes to it."""

# The run after a kill is the one that is killed at the next moment: each goes on from where the one before was cut off.
MOMENTS: tuple[Moment, ...] = (
    ("opened", "", "", 0.0, ()),
    ("opened", "", "", 0.8, ()),
    ("began", MASTER, "workarea.clone", 0.0, (NO_CLONE,)),
    ("began", MASTER, "workarea.clone", 0.2, (NO_CLONE,)),
    ("done", MASTER, "workarea.clone", 0.0, (NO_CLONE,)),
    ("began", MASTER, "workarea.kustomize", 0.1, (NO_KUSTOMIZE,)),
    ("began", MASTER, "images.pushed", 0.0, NO_IMAGES),
    ("began", MASTER, "images.pushed", 1.0, NO_IMAGES),
    ("done", MASTER, "images.pushed", 0.0, NO_IMAGES),
    ("began", PRIMARY, "access.kubeconfig", 0.0, NO_KUBECONFIG),
    ("done", BACKUP, "access.kubeconfig", 0.0, NO_KUBECONFIG),
    ("began", BACKUP, "plugin.lua", 0.0, (NO_PLUGIN,)),
    ("began", MASTER, "deploy.applied", 0.3, (NO_DEPLOYMENTS,)),
    ("began", MASTER, "deploy.applied", 1.5, (NO_DEPLOYMENTS,)),
    ("awaiting", MASTER, "deploy.minimum", 0.5, (NO_DEPLOYMENTS,)),
    ("began", PRIMARY, "slurm.conf", 0.0, DISABLED),
    ("began", PRIMARY, "slurm.conf", 0.4, DISABLED),
    ("done", PRIMARY, "slurm.conf", 0.0, DISABLED),
    ("began", BACKUP, "slurm.conf", 1.5, DISABLED),
    ("began", PRIMARY, "verify.job", 0.0, (NO_PROOF,)),
    ("began", PRIMARY, "verify.job", 2.0, (NO_PROOF,)),
)


@dataclass
class Controllers:
    """What was seen of both controllers, on a site that began pristine; complete after `end()`."""

    seen: dict[str, Watched]
    pristine: str
    end: Callable[[], None]


@pytest.fixture(scope="module")
def controllers(lab: Lab, on: On) -> Iterator[Controllers]:
    """Both controllers, watched from before the first kill."""
    scene.pristine(lab)
    with ExitStack() as stack:
        seen = {host: stack.enter_context(watched(lab, host)) for host in (PRIMARY, BACKUP)}
        yield Controllers(seen, on(PRIMARY, "cat /etc/slurm/slurm.conf"), stack.close)


def reached(moment: Moment) -> Callable[[Record], bool]:
    """Whether a record of the journal is the one that is waited for."""
    kind, host, step, _, _ = moment
    return product.moment(kind, host, step)


def name(moment: Moment) -> str:
    """A moment as people call it: "began deploy.applied ncn-m001 +0.3"."""
    kind, host, step, seconds, _ = moment
    return f"{kind} {step} {host} +{seconds}".replace("   ", " ")


def damage(on: On, *damages: Damage) -> None:
    """Damage what the next run corrects, each on its host."""
    for host, command in damages:
        on(host, command, deadline=240)


# The moments at which most is half done.
SAMPLE = {
    ("opened", "", 0.8),
    ("began", "images.pushed", 1.0),
    ("began", "deploy.applied", 0.3),
    ("began", "slurm.conf", 0.0),
    ("began", "slurm.conf", 0.4),
    ("began", "slurm.conf", 1.5),
    ("began", "verify.job", 2.0),
}


def in_sample(moment: Moment) -> bool:
    """Whether `make test` kills a run at this moment, too."""
    kind, _, step, seconds, _ = moment
    return (kind, step, seconds) in SAMPLE


@pytest.mark.parametrize("moment", sample(MOMENTS, in_sample, name))
def test_killed(lab: Lab, on: On, controllers: Controllers, moment: Moment) -> None:
    """A run comes to each moment, wherever the one before it was killed, and is killed there."""
    *_, seconds, beforehand = moment
    damage(on, *beforehand)
    with Running("install", f"--hosts={scene.site_file(lab)}", "--json") as run:
        assert run.until(reached(moment)), run.end(10).told
        time.sleep(seconds)  # the moment itself
        run.process.kill()
        assert run.process.wait() == -signal.SIGKILL, run.end(10).told


def test_running_again_converges(lab: Lab, controllers: Controllers) -> None:
    """After all of that a run ends well, the one after it finds nothing to do, and neither waits for a lock."""
    mended = scene.installed(lab)
    planned = product.plan(scene.site_file(lab))
    assert mended.seconds < 400
    assert (planned.code, {step["outcome"] for step in planned.steps}) == (0, {"ok"}), planned.told


def test_slurm_conf_was_never_torn(controllers: Controllers) -> None:
    """At every moment slurm.conf had all the lines that it had before, in their order, and none but ours besides."""
    controllers.end()
    for host, seen in controllers.seen.items():
        assert len(seen.texts) >= 2, f"nothing was seen of {host}"
        for text in seen.texts:
            assert not_ours(text) == controllers.pristine.splitlines()


def test_slurmctld_answered(controllers: Controllers) -> None:
    """slurmctld answered all the time, but for its own restarts, none of which took long."""
    controllers.end()
    for host, seen in controllers.seen.items():
        assert seen.samples[0].up and seen.samples[-1].up, host
        assert seen.longest_pause() < 60, f"{host} was not looked at meanwhile"
        assert [gap for gap in seen.gaps() if not gap.restarted or gap.seconds > 60] == []


@pytest.mark.parametrize("host", [MASTER, PRIMARY, BACKUP])
def test_nothing_is_left_over(lab: Lab, on: On, controllers: Controllers, host: str) -> None:
    """No half a file, no lock and no temporary folder is left."""
    assert on(host, LEFT).split() == []


def test_no_job_is_left_over(controllers: Controllers, on: On) -> None:
    """The test jobs of runs that were killed end by themselves, and their Workflows go."""
    until_silent(on, PRIMARY, "squeue --noheader")
    until_silent(on, MASTER, "kubectl get workflows.dataworkflowservices.github.io -A -o name")


# --- a run that is asked to stop, and two at once

INTERRUPTED = ("images.pushed", "deploy.minimum", "slurm.conf", "verify.job")


@pytest.mark.parametrize(
    "moment",
    sample([one for one in MOMENTS if one[2] in INTERRUPTED and one[3]], lambda one: one[3] in (0.4, 2.0), name),
)
def test_interrupted(lab: Lab, on: On, moment: Moment) -> None:
    """Ctrl-C ends a run within seconds; it says where things stand and how to go on, and leaves no lock."""
    scene.installed(lab)
    damage(on, *moment[4])
    with Running("install", f"--hosts={scene.site_file(lab)}", "--json") as run:
        assert run.until(reached(moment)), run.end(10).told
        run.process.send_signal(signal.SIGINT)
        answer = run.end(60)
    assert answer.code == answer.summary["exit"] == 1
    assert answer.having("changed", "ok") and answer.having("skipped", "failed")
    assert "invoke install --hosts" in answer.summary["next"] and "Traceback" not in answer.err
    assert on(MASTER, "ls /var/lib/dws-on-csm | grep lock || true") == ""
    for host in (MASTER, PRIMARY, BACKUP):
        until_silent(on, host, "ls -d /dev/shm/dws-on-csm.* 2>/dev/null || true")


def test_interrupted_at_its_end(lab: Lab, on: On) -> None:
    """Ctrl-C that comes when the work is through takes nothing from a run: it says how it ended, and leaves its journal."""
    scene.installed(lab)
    damage(on, NO_PLUGIN)
    with Running("install", f"--hosts={scene.site_file(lab)}", "--json") as run:
        assert run.until(lambda record: record["event"] == "summary"), run.end(10).told
        run.process.send_signal(signal.SIGINT)
        answer = run.end(60)
    assert answer.summary["exit"] == 0 and answer.having("changed"), answer.told
    assert on(MASTER, "ls /var/lib/dws-on-csm/runs").split()[-1] == answer.summary["run"]


def test_two_at_once(lab: Lab, on: On) -> None:
    """While a run is at work a second one is refused with exit code 3, and says whose it is; the first goes on."""
    scene.installed(lab)
    damage(on, NO_CLONE)
    with ExitStack() as waiting:
        # its test job, without which it can't end: another job has all nodes
        other = "sbatch --parsable --exclusive --nodes=2 --time=10 --output=/dev/null --wrap='sleep 600'"
        job = on(PRIMARY, f"cd /tmp && runuser -u joe -- {other}").strip()
        waiting.callback(on, PRIMARY, f"scancel --full {job}")
        with Running("install", f"--hosts={scene.site_file(lab)}", "--json") as first:
            assert first.until(reached(("began", MASTER, "workarea.clone", 0.0, ()))), first.end(10).told
            second = product.install(scene.site_file(lab))
            waiting.close()
            assert first.end(600).code == 0
    assert second.code == 3 and "is running on this site" in second.summary["message"], second.told
