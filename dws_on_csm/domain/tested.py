"""With which versions this tool was tried, as data: docs/versions.md, README.md and the notes of the preflight are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dws_on_csm.domain.names import version_key

How = Literal["lab", "hand", "documents"]
"""lab: the tests install it, in `make test` or `make matrix`; hand: somebody installed it on the lab and looked; documents: no part
of that version was ever tried, and the tool follows what is written about it."""

HOW_TEXT: Mapping[How, str] = {
    "lab": "tested on the lab",
    "hand": "tried by hand",
    "documents": "never tried; the tool follows its documentation",
}


@dataclass(frozen=True)
class Tested:
    """A version of a part, and how it was tested. `version` has as many numbers as count: 24.11 stands for all 24.11.x."""

    part: str
    version: str
    how: How
    what: str = ""


PARTS: Mapping[str, str] = {
    "dws": "DWS",
    "plugin": "burst-buffer plugin",
    "slurm": "Slurm",
    "kubernetes": "Kubernetes",
    "cert-manager": "cert-manager",
}
"""The parts by the names that domain/compatibility has for them -> their names for people."""

BY_HAND = "install, a second install, plan, verify, doctor, undeploy; built from source"

TABLE = (
    Tested("dws", "0.0.20", "hand", "the default; the tests use a fake of it"),
    Tested("dws", "0.1.12", "hand", "also the upgrade from 0.0.20"),
    Tested("dws", "0.1.17", "hand", "also the upgrade from 0.1.12, and back; with plugin.workflow_version: auto"),
    Tested("plugin", "0.0.5", "hand", "the default; the tests use a fake of it"),
    Tested("slurm", "23.02", "hand", BY_HAND),
    Tested("slurm", "23.11", "hand", BY_HAND),
    Tested("slurm", "24.05", "hand", BY_HAND),
    Tested("slurm", "24.11", "lab", "Debian 13's packages, with burst_buffer_lua.so built with Lua 5.4"),
    Tested("slurm", "25.05", "hand", BY_HAND),
    Tested("slurm", "25.11", "hand", BY_HAND),
    Tested("slurm", "26.05", "hand", BY_HAND),
    Tested("kubernetes", "1.20", "documents", "CSM 1.2"),
    Tested("kubernetes", "1.21", "documents", "CSM 1.3 and 1.4"),
    Tested("kubernetes", "1.22", "lab", "CSM 1.5; with PodSecurityPolicies, as CSM has them"),
    Tested("kubernetes", "1.24", "lab", "CSM 1.6; with PodSecurityPolicies, as CSM has them"),
    Tested("kubernetes", "1.33", "lab"),
    Tested("kubernetes", "1.37", "lab", "the newest that was built"),
    Tested("cert-manager", "1.5", "lab", "CSM 1.5; also without its old API versions, as 1.6 and newer are"),
    Tested("cert-manager", "1.11", "lab", "serves only v1, as that of CSM 1.6 does"),
    Tested("cert-manager", "1.12", "documents", "CSM 1.6"),
)


def row(part: str, version: str) -> Tested | None:
    """The row of a part's version ("kubernetes", "v1.33.13"), or None where there is none."""
    key = version_key(version)
    rows = [each for each in TABLE if each.part == part]
    return next((each for each in rows if key[: len(version_key(each.version))] == version_key(each.version)), None)


def note(versions: Mapping[str, str]) -> str:
    """What a run says of these versions (part -> version; "" where it is unknown): those that were never tried; "" for none."""
    untried = [
        f"{PARTS[part]} {version}"
        for part, version in versions.items()
        if version and ((found := row(part, version)) is None or found.how == "documents")
    ]
    return f"never tried with this tool: {', '.join(untried)} (docs/versions.md)" if untried else ""


def pairs() -> Sequence[tuple[str, str]]:
    """(DWS, plugin) that were seen to work together, the newest last."""
    plugins = [each.version for each in TABLE if each.part == "plugin" and each.how != "documents"]
    return [(each.version, plugins[-1]) for each in TABLE if each.part == "dws" and each.how != "documents"]
