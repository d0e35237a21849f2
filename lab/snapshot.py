"""The snapshot of a lab that is up and untouched: what `reset` gives back.

STATE/pristine/HOST/upper becomes a layer below a new, empty upper layer; stores that cannot be in an overlay are
copied.
"""

import shutil
import subprocess
from pathlib import Path

from lab import cgroups, layers, machine, store
from lab.model import Host, Lab


def taken(lab: Lab) -> bool:
    """Whether the lab has a complete snapshot."""
    return (lab.state / "pristine").is_dir()


def take(lab: Lab) -> None:
    """Takes the snapshot of a running lab: all hosts stand still meanwhile, about a second."""
    aside = lab.state / "pristine.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    groups = [group for host in lab.hosts for group in cgroups.groups(lab, host)]
    try:
        cgroups.freeze(groups, on=True)
        for host in lab.hosts:
            (aside / host.name).mkdir()
            copy(lab.folder(host) / "upper", aside / host.name / "upper")
            copy_stores(lab.folder(host) / "data", aside / host.name / "data")
        copy(lab.state / "shared", aside / "shared")
    finally:
        cgroups.freeze(groups, on=False)
    aside.rename(lab.state / "pristine")


def layer(lab: Lab, host: Host) -> list[Path]:
    """The layer of a host that the snapshot holds: one, or none before it is taken."""
    return [lab.state / "pristine" / host.name / "upper"] if taken(lab) else []


def restore(lab: Lab, host: Host) -> None:
    """Makes a host that is not running what it was when the snapshot was taken, or new when none was."""
    machine.forget(lab, host)
    if taken(lab):
        copy_stores(lab.state / "pristine" / host.name / "data", lab.folder(host) / "data")
    elif "containerd" in machine.STORES.get(host.role, ()):
        store.copy(layers.images(lab, host, lambda text: None), lab.folder(host) / "data/containerd")


def restore_shared(lab: Lab) -> None:
    """Makes what hosts share what it was when the snapshot was taken, or new; no host may be running."""
    shutil.rmtree(lab.state / "shared", ignore_errors=True)
    if taken(lab):
        copy(lab.state / "pristine/shared", lab.state / "shared")
    else:
        (lab.state / "shared/slurm").mkdir(parents=True)


def copy(source: Path, target: Path) -> None:
    """Copies a folder that may not be there, with owners, modes and what overlays note in extended attributes."""
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True, timeout=300)


def copy_stores(source: Path, target: Path) -> None:
    """Copy each store in `source` to the store of the same name in `target`."""
    for folder in sorted(source.iterdir()) if source.is_dir() else []:
        (store.copy if folder.name == "containerd" else copy)(folder, target / folder.name)
