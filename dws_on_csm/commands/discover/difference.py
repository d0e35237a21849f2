"""What a site file says otherwise than `invoke discover` saw it: by key, as a person may have written the file in another form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dws_on_csm.commands.discover.page import scalar
from dws_on_csm.config.load import SCHEMA
from dws_on_csm.config.nodeset import expand
from dws_on_csm.config.yaml_file import local_path, read
from dws_on_csm.display.progress import fold

Flat = dict[str, Any]


def differences(file: Path, path: Path, text: str) -> list[str]:
    """The lines of the difference: "- KEY: VALUE" as the file has it, "+ KEY: VALUE" as it was seen. Keys of which nothing was seen
    do not count. SiteError for a file that cannot be read.

    path, text   where the new site file would be, and its text
    """
    written = _leaves(yaml.safe_load(text))
    have, seen = (_flat(read(at, SCHEMA, text=content).data, at) for at, content in ((file, None), (path, text)))
    keys = [
        key for key in dict.fromkeys((*seen, *have)) if key in written or key.startswith(("controllers[", "computes["))
    ]
    lines = []
    for key in keys:
        if have.get(key) != seen.get(key):
            lines += [f"- {key}: {scalar(have[key])}"] if have.get(key) is not None else []
            lines += [f"+ {key}: {scalar(seen[key])}"] if seen.get(key) is not None else []
    return lines


def _flat(data: Mapping[str, Any], path: Path) -> Flat:
    """All keys with their values; lists of hosts by the hosts' names, each controller by itself."""
    flat = {key: value for key, value in _leaves(data).items() if not key.startswith(("controllers", "computes"))}
    if flat.get("ssh.config"):
        flat["ssh.config"] = str(local_path(path, flat["ssh.config"]))
    for rule in data.get("controllers") or ():
        for name in _names(rule):
            flat |= {f"controllers[{name}].{key}": value for key, value in _leaves(rule).items() if key != "host"}
            flat[f"controllers[{name}].host"] = None if rule.get("pod") else name
    groups = data.get("computes") or []
    for group in [groups] if isinstance(groups, dict) else groups:
        name = fold(expand(group["hosts"]))
        flat |= {f"computes[{name}].{key}": value for key, value in _leaves(group).items()}
        flat[f"computes[{name}].hosts"] = name
    return flat


def _names(rule: Mapping[str, Any]) -> tuple[str, ...]:
    pod = rule.get("pod")
    return (pod["name"] or pod["container"],) if pod else expand(rule["host"])


def _leaves(data: Any, key: str = "") -> Flat:
    return dict(_walk(data, key))


def _walk(data: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _walk(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, data
