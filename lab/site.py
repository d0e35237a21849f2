"""A lab's life: up, down, reset."""

import datetime
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab import access, cgroups, cluster, labs, layers, machine, needs, network, pristine, slurm
from lab.model import Host, Lab

Announce = Callable[[str], None]


def up(lab: Lab, announce: Announce) -> None:
    """Brings the lab up from whatever state it is in; `announce` hears what is being done.

    A lab that is up stays as it is; hosts that are down are booted as they were; what was cut short begins anew.
    """
    with labs.locked(lab.state):
        needs.meet(lab, announce)
        layers.build(lab, announce)
        if not pristine.taken(lab):
            _begin(lab, announce)
        elif (lab.state / "resetting").exists():
            _reset(lab, announce)
        else:
            _start(lab, [host for host in lab.hosts if not machine.running(lab, host)], announce)


def reset(lab: Lab, announce: Announce) -> None:
    """Gives the pristine site back, within seconds; a lab that never came up is brought up."""
    if not pristine.taken(lab):
        up(lab, announce)
        return
    with labs.locked(lab.state):
        needs.meet(lab, announce)
        _reset(lab, announce)


def down(lab: Lab) -> None:
    """Ends the lab and leaves nothing of it on this machine: no process, device, control group, mount or file."""
    with labs.locked(lab.state):
        each(lab.hosts, lambda host: machine.kill(lab, host))
        network.remove(lab)
        cgroups.remove(lab)
        if lab.state.exists():
            shutil.rmtree(lab.state)


def each(hosts: Sequence[Host], act: Callable[[Host], Any]) -> list[Any]:
    """Calls act(host) for all hosts at once and returns the results; errors are raised when all calls have ended."""
    if not hosts:
        return []
    with ThreadPoolExecutor(len(hosts)) as pool:
        calls = [pool.submit(act, host) for host in hosts]
    errors = [error for call in calls if (error := call.exception())]
    if errors:
        raise (
            errors[0]
            if len(errors) == 1
            else ExceptionGroup("several hosts", [e for e in errors if isinstance(e, Exception)])
        )
    return [call.result() for call in calls]


def _begin(lab: Lab, announce: Announce) -> None:
    """From nothing, or from what an interrupted run left, to a site with its snapshot."""
    each(lab.hosts, lambda host: machine.kill(lab, host))
    shutil.rmtree(lab.state / "consoles", ignore_errors=True)
    layers.write(lab, announce)
    access.write(lab)
    pristine.restore_shared(lab)
    each(lab.hosts, lambda host: pristine.restore(lab, host))
    _start(lab, lab.hosts, announce, new=True)
    pristine.take(lab)
    announce("snapshot taken")


def _reset(lab: Lab, announce: Announce) -> None:
    (lab.state / "resetting").touch()
    each(lab.hosts, lambda host: machine.kill(lab, host))
    pristine.restore_shared(lab)
    each(lab.hosts, lambda host: pristine.restore(lab, host))
    _start(lab, lab.hosts, announce)
    (lab.state / "resetting").unlink()


def _start(lab: Lab, hosts: Sequence[Host], announce: Announce, new: bool = False) -> None:
    """Boots `hosts` and returns when the whole site is ready; a new one is filled with what every CSM cluster holds."""
    since = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    network.ensure(lab)
    each(hosts, lambda host: _boot(lab, host))
    if hosts:
        announce(f"{len(hosts)} hosts are booting")
    machine.wait_for_ssh(lab.hosts)
    announce("sshd answers on all hosts")
    with ThreadPoolExecutor(1) as pool:
        settled = pool.submit(slurm.settle, lab)
        _wait_for_kubernetes(lab, since, announce, new)
        settled.result()
    announce("Slurm is ready")


def _boot(lab: Lab, host: Host) -> None:
    # What is left of a host that died by itself is taken away first.
    machine.kill(lab, host)
    machine.boot(lab, host, pristine.layers(lab, host) + layers.stack(lab, host))


def _wait_for_kubernetes(lab: Lab, since: datetime.datetime, announce: Announce, new: bool) -> None:
    cluster.wait_for_nodes(lab, since)
    announce("all nodes are Ready")
    if new:
        cluster.fill(lab)
    cluster.wait_for_cert_manager(lab)
    announce("cert-manager admits")
