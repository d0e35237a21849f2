"""A lab's life: up, reset, down."""

import dataclasses
import datetime
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lab import (
    access,
    cache,
    certmanager_ready,
    cgroups,
    cluster,
    health,
    layers,
    machine,
    network,
    registry,
    requirements,
    slurm,
    slurm_pod,
    snapshot,
)
from lab.model import Host, Lab

Announce = Callable[[str], None]
T = TypeVar("T")


def up(lab: Lab, announce: Announce) -> None:
    """Boot the lab from any state; `announce` gets each step as text.

    A lab that is up stays as it is. Hosts that are down are booted as they were. What was interrupted begins again.
    """
    with registry.locked(lab.state):
        requirements.meet(lab, announce)
        network.ensure(lab)
        layers.build(lab, announce)
        if not snapshot.taken(lab):
            _begin(lab, announce)
        elif (lab.state / "resetting").exists():
            _reset(lab, announce)
        else:
            if not current(lab):
                announce("files in lab/ have changed since this lab was made: run lab.down and lab.up to renew it")
            _start(lab, [host for host in lab.hosts if not machine.running(lab, host)], announce)


def build(lab: Lab, announce: Announce) -> None:
    """Fetches and builds all that a lab is made of, with slurmctld on hosts or in a pod, and boots nothing."""
    with registry.locked(lab.state):
        requirements.meet(lab, announce)
        for pod in (False, True):
            options = dataclasses.replace(lab.options, slurmctld_pod=pod)
            layers.build(dataclasses.replace(lab, options=options), announce)


def reset(lab: Lab, announce: Announce) -> None:
    """Reset the site to its snapshot, within seconds; boot a lab that never came up."""
    if not snapshot.taken(lab):
        up(lab, announce)
        return
    with registry.locked(lab.state):
        requirements.meet(lab, announce)
        network.ensure(lab)
        _reset(lab, announce)


def down(lab: Lab) -> None:
    """Remove the lab completely: no process, device, control group, mount or file of it stays on this machine."""
    with registry.locked(lab.state):
        if not network.other(lab):  # else what goes by the network's number is another lab's
            each(lab.with_second.hosts, lambda host: machine.kill(lab, host))
            cgroups.remove(lab)
            network.remove(lab)  # last: from here on the lab's number is free for another one
        if lab.state.exists():
            shutil.rmtree(lab.state)
        registry.release(lab)


def add_second(lab: Lab, announce: Announce) -> Lab:
    """Boot a second Slurm cluster, new, beside a lab that is up; return the lab with it. A reset and a down end it."""
    both = lab.with_second
    with registry.locked(lab.state):
        for host in both.role("slurm"):
            machine.kill(both, host)
            machine.forget(both, host)
            layers.write_slurm(both, host, announce)
            access.write(both)
            machine.wait_for_ssh(both, {host: machine.boot(both, host, layers.stack(both, host))})
        slurm.settle(both)
        announce("the second Slurm cluster responds")
    return both


def current(lab: Lab) -> bool:
    """Whether lab/ is unchanged since the lab was made."""
    stamp = lab.state / "stamp"
    return stamp.exists() and stamp.read_text() == _stamp()


def each(hosts: Sequence[Host], act: Callable[[Host], T]) -> list[T]:
    """Calls act(host) for all hosts at once and returns the results; errors are raised when all calls have ended."""
    if not hosts:
        return []
    with ThreadPoolExecutor(len(hosts)) as pool:
        calls = [pool.submit(act, host) for host in hosts]
    errors = [error for call in calls if isinstance(error := call.exception(), Exception)]
    if len(errors) > 1:
        raise ExceptionGroup("several hosts", errors)
    return [call.result() for call in calls]


def _begin(lab: Lab, announce: Announce) -> None:
    """From nothing, or from what an interrupted run left, to a site with its snapshot."""
    each(lab.with_second.hosts, lambda host: machine.kill(lab, host))
    shutil.rmtree(lab.state / "consoles", ignore_errors=True)
    (lab.state / "stamp").write_text(_stamp())
    layers.write(lab, announce)
    access.write(lab)
    snapshot.restore_shared(lab)
    each(lab.hosts, lambda host: snapshot.restore(lab, host))
    _start(lab, lab.hosts, announce, new=True)
    snapshot.take(lab)
    announce("snapshot taken")


def _stamp() -> str:
    return cache.digest([Path(__file__).parent])


def _reset(lab: Lab, announce: Announce) -> None:
    (lab.state / "resetting").touch()
    each(lab.with_second.hosts, lambda host: machine.kill(lab, host))
    snapshot.restore_shared(lab)
    each(lab.hosts, lambda host: snapshot.restore(lab, host))
    _start(lab, lab.hosts, announce)
    (lab.state / "resetting").unlink()


def _start(lab: Lab, hosts: Sequence[Host], announce: Announce, new: bool = False) -> None:
    """Boots `hosts` and returns when the whole site is ready; a new one is filled with what every CSM cluster holds.

    TimeoutError says what is wrong with which host.
    """
    # Whole seconds, as the API server keeps its times. Without a boot, what it says is not from before one.
    since = datetime.datetime.now(datetime.UTC).replace(microsecond=0) if hosts else None
    network.ensure(lab)
    booted = dict(zip(hosts, each(hosts, lambda host: _boot(lab, host)), strict=True))
    everything = hosts and len(hosts) == len(lab.hosts)
    announce("booting " + ("all hosts" if everything else ", ".join(host.name for host in hosts) or "none: all run"))
    try:
        _wait(lab, booted, since, announce, new)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{health.table(lab, health.look(lab))}") from error


def _boot(lab: Lab, host: Host) -> subprocess.Popen[bytes]:
    # A host that died may have left something behind: remove that first.
    machine.kill(lab, host)
    return machine.boot(lab, host, snapshot.layer(lab, host) + layers.stack(lab, host))


def _wait(
    lab: Lab,
    booted: dict[Host, subprocess.Popen[bytes]],
    since: datetime.datetime | None,
    announce: Announce,
    new: bool,
) -> None:
    machine.wait_for_ssh(lab, booted)
    announce("sshd responds on all hosts")
    with ThreadPoolExecutor(1) as pool:
        settled = pool.submit(slurm.settle, lab)
        cluster.wait_for_nodes(lab, since)
        announce("all nodes are Ready")
        if new:
            cluster.fill(lab, slurm_pod.manifests(lab))
            slurm_pod.complete(lab)
        certmanager_ready.wait(lab)
        announce("cert-manager issues certificates")
        if lab.options.in_pods:
            slurm_pod.wait(lab, booted, since)
            announce("slurmctld's pods are Ready")
        settled.result()
    announce("Slurm responds, its nodes are idle")
