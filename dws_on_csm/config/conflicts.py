"""What is wrong in a site file only in the light of other keys, or of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dws_on_csm.config.acceptable import refusal
from dws_on_csm.config.nodeset import expand
from dws_on_csm.config.schema import Problem
from dws_on_csm.config.yaml_file import Content, local, shown


def conflicts(content: Content, path: Path) -> Iterator[Problem]:
    """What is wrong only in the light of other keys or of this machine; a key that is wrong by itself is left out."""
    yield from _twice(content)
    yield from _placeless(content)
    yield from _always_renewed(content)
    yield from _kustomize(content)
    yield from _accepted(content)
    config = (content.data.get("ssh") or {}).get("config")
    if config and not local(path, config).is_file():
        yield content.problem("ssh.config", f"no such file: {shown(local(path, config))}")


def _always_renewed(content: Content) -> Iterator[Problem]:
    access = content.data.get("access") or {}
    days, left = access.get("days"), access.get("renew_below")
    if days is not None and left is not None and left >= days:
        yield content.problem("access.renew_below", f"expected less than access.days ({days}), or every run renews")


def _kustomize(content: Content) -> Iterator[Problem]:
    """A problem where only one of its source and its checksum is given."""
    kustomize = (content.data.get("sources") or {}).get("kustomize") or {}
    source, digits = kustomize.get("from"), kustomize.get("sha256")
    if source and digits == "":
        yield content.problem("sources.kustomize.sha256", "missing: the sha256 of what `from` names, from `sha256sum`")
    if digits and source == "":
        yield content.problem("sources.kustomize.from", "missing: what the sha256 is of")


def _accepted(content: Content) -> Iterator[Problem]:
    """A problem for each finding that no site can live with, or that there is not: it would stay unnoticed."""
    for number, name in enumerate(content.data.get("accept") or []):
        if name and (why := refusal(name)):
            yield content.problem(f"accept[{number}]", why)


def _twice(content: Content) -> Iterator[Problem]:
    """A problem for each key that names a host which another key named before it."""
    owner: dict[str, str] = {}
    for key, nodeset in _named(content.data):
        names = expand(nodeset)
        again = [name for name in names if name in owner]
        if again:
            more = f" and {len(again) - 1} more" if again[1:] else ""
            yield content.problem(key, f"{again[0]}{more}: named by {owner[again[0]]} already; a host has one role")
        owner |= dict.fromkeys(names, key)


def _placeless(content: Content) -> Iterator[Problem]:
    """A problem for each controller that has both a host and a pod, or neither."""
    for number, rule in enumerate(content.data.get("controllers") or []):
        key = f"controllers[{number}].host"
        if rule and rule["pod"] is not None and key in content.places:
            yield content.problem(key, "a controller is a host or a pod, not both")
        elif rule and rule["pod"] is None and key not in content.places and f"{key[:-4]}pod" not in content.places:
            yield content.problem(key, "missing: a host's name or a node set, like nid[000001-000008]; or a pod")


def _named(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and node set of every key that names hosts rightly."""
    named = [("master.host", (data.get("master") or {}).get("host"))]
    for number, rule in enumerate(data.get("controllers") or []):
        named.append((f"controllers[{number}].host", (rule or {}).get("host")))
        if pod := (rule or {}).get("pod"):
            named.append((f"controllers[{number}].pod", pod["name"] or pod["container"]))
    computes = data.get("computes") or []
    if isinstance(computes, dict):
        named.append(("computes.hosts", computes.get("hosts")))
    else:
        named += [(f"computes[{i}].hosts", (group or {}).get("hosts")) for i, group in enumerate(computes)]
    return ((key, nodeset) for key, nodeset in named if nodeset is not None)
