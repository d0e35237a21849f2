"""The controllers that slurm.conf names: SlurmctldHost, and the keys of an older Slurm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dws_on_csm.config.site import Site
from dws_on_csm.domain import slurm_conf
from dws_on_csm.stages.slurm import controller


@dataclass(frozen=True)
class Entry:
    """One SlurmctldHost: the names of its host (several where it has a virtual one), and its address, if slurm.conf has one."""

    names: tuple[str, ...]
    address: str = ""


def entries(site: Site, files: Mapping[str, str], pinged: Sequence[str] = ()) -> list[Entry]:
    """The controllers that slurm.conf names, in the order in which they take over, then what only `scontrol ping` names.

    SlurmctldHost=NAME(ADDRESS), or else ControlMachine and BackupController of an older Slurm. `files`: slurm.conf and what it
    includes, by path.
    """
    text = files.get(site.slurm.conf, "")
    named = [_entry(setting.value) for setting in slurm_conf.settings(text, "SlurmctldHost", files, site.slurm.folder)]
    older = (("ControlMachine", "ControlAddr"), ("BackupController", "BackupAddr"))
    named = named or [entry for keys in older for entry in _older(site, files, *keys)]
    known = {name for entry in named for name in entry.names}
    more = [Entry(tuple(names.split(","))) for names in pinged if not known & set(names.split(","))]
    return list(dict.fromkeys([*named, *more]))


def _entry(value: str) -> Entry:
    name, _, address = value.partition("(")
    return Entry(tuple(filter(None, name.strip().split(","))), address.partition(")")[0].strip())


def _older(site: Site, files: Mapping[str, str], name: str, address: str) -> Iterator[Entry]:
    host, at = (controller.setting(files, site, key) for key in (name, address))
    if host is not None:
        yield Entry(_entry(host.value).names, at.value if at else "")
