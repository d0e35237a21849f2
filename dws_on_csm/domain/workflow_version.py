"""The API version of the Workflows that the plugin writes: where it is in burst_buffer.lua, and what it has to have for the plugin.

A CRD can stop serving a version while the plugin still writes it. The plugin reads and changes Workflows by the name of their CRD,
without a version: only the version that it writes has to be one that DWS serves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypedDict

from dws_on_csm.domain.names import GROUP

MARK = "changed by dws-on-csm"
"""Begins the comment at the end of a file whose version was changed."""


class Version(TypedDict):
    """A version of the CRD workflows.

    fields      path -> type: ".spec.jobID", ".status.drivers[].error"
    required    the fields of .spec that have to be written: those with a default are not among them
    """

    served: bool
    storage: bool
    fields: dict[str, str]
    required: list[str]


WRITES: Mapping[str, str] = {
    ".spec.desiredState": "string",
    ".spec.dwDirectives": "array",
    ".spec.wlmID": "string",
    ".spec.jobID": "int-or-string",
    ".spec.userID": "integer",
    ".spec.groupID": "integer",
    ".spec.hurry": "boolean",
}
"""What the plugin writes to a Workflow, with its type: DWS:template and DWS:set_desired_state in burst_buffer.lua of v0.0.5."""

READS: Mapping[str, str] = {
    ".status.state": "string",
    ".status.status": "string",
    ".status.drivers": "array",
    ".status.drivers[].watchState": "string",
    ".status.drivers[].driverID": "string",
    ".status.drivers[].status": "string",
    ".status.drivers[].error": "string",
}
"""What it reads of one: DWS:get_current_state and DWS:get_driver_errors there."""

_WRITTEN = re.compile(rf"(apiVersion: {re.escape(GROUP)}/)(v[0-9]+(?:(?:alpha|beta)[0-9]+)?)\b")


def written(lua: str) -> str:
    """The version of the Workflows that a burst_buffer.lua writes; "" where it says none."""
    match = _WRITTEN.search(lua)
    return match[2] if match else ""


def rewritten(lua: str, version: str, reason: str) -> str:
    """A burst_buffer.lua that writes Workflows of `version`. A comment at its end says what was changed, where and why."""
    former = written(lua)
    if former in ("", version):
        return lua
    lines = [number for number, line in enumerate(lua.split("\n"), 1) if _WRITTEN.search(line)]
    where = f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"
    text = _WRITTEN.sub(lambda match: match[1] + version, lua).rstrip()
    return f"{text}\n\n-- {MARK}: {former} is now {version} in {where}, because {reason}\n"


def choose(versions: Mapping[str, Version], writes: str) -> str:
    """The version to write: `writes` where it is served, else the one in which Workflows are stored, else the newest one that is
    served; "" where none is."""
    served = [name for name, version in versions.items() if version["served"]]
    if writes in served:
        return writes
    return next((name for name in served if versions[name]["storage"]), newest(served))


def newest(versions: Collection[str]) -> str:
    """The newest of these versions, as Kubernetes orders them; "" for none."""
    return max(versions, key=_age, default="")


def lacking(version: Version) -> Sequence[str]:
    """What makes a version unfit for the plugin, in words: fields that it lacks or has with another type, and fields that it
    requires and the plugin does not write."""
    fields, needed = version["fields"], {**WRITES, **READS}
    lacks = [f"{path[1:]} is missing" for path in needed if path not in fields]
    differs = [
        f"{path[1:]} is of type {fields[path]}, not {kind}"
        for path, kind in needed.items()
        if path in fields and fields[path] != kind
    ]
    asks = [
        f"spec.{name} is required, and the plugin does not write it"
        for name in version["required"]
        if f".spec.{name}" not in WRITES
    ]
    return [*lacks, *differs, *asks]


def _age(version: str) -> tuple[int, int, int]:
    """Newer ones have the higher value: v1alpha7 before v1alpha10, then v1beta1, then v1."""
    match = re.fullmatch(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?", version)
    if not match:
        return (0, 0, 0)
    return (int(match[1]), {"alpha": 0, "beta": 1, None: 2}[match[2]], int(match[3] or 0))
