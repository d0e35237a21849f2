"""Which labs there are: a lab's folder, its network, and the options it was made with, kept in STATE/lab.json."""

import contextlib
import dataclasses
import fcntl
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import keys, network
from lab.model import Lab, Options

CHECKOUT = Path(__file__).resolve().parent.parent
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
LAST_INDEX = 254
TAKEN = Path("/run/dws-on-csm")
"""Index -> the state folder of the lab that has it, whatever checkout that is in: its network is made only later."""


def folder(name: str) -> Path:
    """The state folder of the lab of that name; "" is the default lab. ValueError when it is no name for a lab."""
    if name and not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a lab: use at most 20 lowercase letters, digits and hyphens")
    return CHECKOUT / (f".lab-{name}" if name else ".lab")


def find(name: str) -> Lab | None:
    """The lab of that name, up or not, or None."""
    try:
        kept = json.loads((folder(name) / "lab.json").read_text())
    except FileNotFoundError:
        return None
    return Lab(name, folder(name), kept["index"], _from_json(kept["options"]))


def existing(name: str) -> Lab:
    """The lab of that name; LookupError says how to get it."""
    lab = find(name)
    if lab is None:
        raise LookupError(f"{folder(name)} has no lab: run invoke lab.up" + (f" --name {name}" if name else ""))
    return lab


def create(name: str, options: Options) -> Lab:
    """The lab of that name, with a network of its own if it is new; writes STATE/lab.json.

    A lab that is there keeps its options: ValueError when others are asked for.
    """
    lab = find(name)
    if lab is None:
        with locked("networks"):
            lab = Lab(name, folder(name), free_index(name), options)
            lab.state.mkdir(parents=True, exist_ok=True)
            lab.state.chmod(0o755)
            record = {"index": lab.index, "options": dataclasses.asdict(options)}
            keys.write(lab.state / "lab.json", json.dumps(record, default=str).encode())
            TAKEN.mkdir(exist_ok=True)
            (TAKEN / str(lab.index)).write_text(str(lab.state))
    if options not in (Options(), lab.options):
        raise ValueError(f"the lab in {lab.state} was made with other options: run invoke lab.down first")
    return lab


def free_index(name: str) -> int:
    """The first index with a free network; the default lab starts at 0, others at 1.

    A network that this lab left behind without its folder is taken up again.
    """
    if left := lost(name):
        return left.index
    taken = {other.index for other in all_labs()} | taken_elsewhere() | network.owners().keys() | addresses_in_use()
    return next(index for index in range(1 if name else 0, LAST_INDEX + 1) if index not in taken)


def taken_elsewhere() -> set[int]:
    """The indexes of labs in any checkout on this machine that were made since it booted and are still there."""
    states = {int(path.name): Path(path.read_text()) for path in TAKEN.glob("*")}
    return {index for index, state in states.items() if _index(state) == index}


def release(lab: Lab) -> None:
    """Free the index of a lab that was removed."""
    with locked("networks"):
        mine = TAKEN / str(lab.index)
        if mine.exists() and mine.read_text() == str(lab.state):
            mine.unlink()


def _index(state: Path) -> int | None:
    try:
        return int(json.loads((state / "lab.json").read_text())["index"])
    except FileNotFoundError:
        return None


def lost(name: str) -> Lab | None:
    """The lab of that name whose folder was removed while its hosts were running, or None."""
    for index, owner in network.owners().items():
        if owner == str(folder(name))[-network.ALIAS_LENGTH :]:
            return Lab(name, folder(name), index)
    return None


def all_labs() -> list[Lab]:
    """All labs of this checkout."""
    names = (path.parent.name.removeprefix(".lab").removeprefix("-") for path in CHECKOUT.glob(".lab*/lab.json"))
    return [lab for name in names if (lab := find(name))]


def addresses_in_use() -> set[int]:
    """The N of every 10.77.N.0/24 that overlaps a network of this machine."""
    networks = [ipaddress.ip_interface(address).network for address in network.addresses()]
    ours = {index: ipaddress.ip_network(f"10.77.{index}.0/24") for index in range(LAST_INDEX + 1)}
    return {
        index for index, own in ours.items() if any(own.overlaps(other) for other in networks if other.version == 4)
    }


@contextlib.contextmanager
def locked(name: str | Path) -> Iterator[None]:
    """Hold the lock `name` of this machine; wait for it first."""
    digest = hashlib.sha256(str(name).encode()).hexdigest()[:12]
    with Path(f"/run/lock/dws-on-csm-{digest}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _from_json(kept: dict[str, Any]) -> Options:
    paths: dict[str, Any] = {key: Path(kept[key]) for key in ("dws_repo", "plugin_repo", "slurm_root") if kept.get(key)}
    images = tuple((name, Path(archive)) for name, archive in kept.get("images", []))
    flags = {
        key: kept[key] for key in ("old_api", "slurmctld_pod", "csm", "csm_release", "slurm_clusters") if key in kept
    }
    return Options(images=images, **paths, **flags)
