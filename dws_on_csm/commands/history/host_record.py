"""What lies on a host of a run and all later ones: before-images of files and objects, and what became of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import MALFORMED
from dws_on_csm.model.snapshot import ABSENT, FileSnapshot
from dws_on_csm.stages.slurm import plugin


@dataclass
class Trail:
    """What lies on a host of a run and all later ones.

    files    path -> how it was before the first of them that changed it; by the name that everybody calls the file
    objects  path -> how it was, on the master alone; `left` what it became
    conf     slurm.conf's text now; None where there is none
    space    the namespace that the kubeconfig of now names; "" where there is none
    unread   run -> its records that can't be read, in words
    missed   run -> those of them without which it isn't known how something was that it changed
    """

    files: dict[str, FileSnapshot] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    conf: str | None = None
    space: str = ""
    unread: dict[str, list[str]] = field(default_factory=dict)
    missed: dict[str, list[str]] = field(default_factory=dict)


def literals(site: Site) -> tuple[str, ...]:
    """The files by whose names everything here is compared, wherever links lead from there."""
    beside = (f"{site.slurm.folder}/{name}" for name in (plugin.LUA, plugin.CONF))
    return (names.KUBECONFIG, site.slurm.conf, *beside)


@dataclass
class _Read:
    """What was read so far: path -> what it means; path -> the last run that left it and how; certificates, and the namespace
    that a kubeconfig names, by run and path."""

    found: Trail = field(default_factory=Trail)
    means: dict[str, str] = field(default_factory=dict)
    left: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    certificates: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    spaces: dict[tuple[str, str], str] = field(default_factory=dict)


def trail(lines: Sequence[str]) -> Trail:
    """What the lines of templates/host/chain.sh say."""
    read = _Read()
    for line in lines:
        word, _, rest = line.partition(" ")
        try:
            _take(read, word, rest)
        except MALFORMED:
            run, _, text = rest.partition(" ")
            _unread(read.found, word, run, text)
    files = read.found.files.items()
    return replace(read.found, files={path: replace(one, left=frozenset(read.left[path][1])) for path, one in files})


def _take(read: _Read, word: str, rest: str) -> None:
    """Takes a line; raises what a record raises that was cut off or isn't one of ours."""
    if word == "means":
        path, _, meaning = rest.partition("\t")
        read.means[path] = meaning
    elif word in ("image", "absent"):
        _file(read, _image(rest) if word == "image" else _absence(rest))
    elif word == "left":
        run, sum_, path = rest.split(" ", 2)
        _leaves(read.left, run, read.means.get(path, path), sum_)
    elif word == "object":
        _object(read.found.objects, rest)
    elif word == "certificate":
        run, text, path = rest.split(" ", 2)
        read.certificates.setdefault((run, path), []).append(_decoded(text))
    elif word == "space":
        run, space, path = rest.split(" ", 2)
        if run == "-":
            read.found.space = space
        else:
            read.spaces[run, path] = space
    elif word == "conf":
        read.found.conf = base64.b64decode(rest, validate=True).decode(errors="surrogateescape")


def _file(read: _Read, image: FileSnapshot) -> None:
    path = read.means.get(image.image, image.image)
    one = replace(image, path=path, certificates=read.certificates.get((image.run, image.image)))
    one = replace(one, space=read.spaces.get((image.run, image.image), ""))
    read.found.files.setdefault(path, one)
    _leaves(read.left, one.run, path, one.sum)


def _decoded(text: str) -> bytes:
    """A certificate in base64; nothing where it is none, which is as bad as one that is worth nothing."""
    try:
        return base64.b64decode("" if text == "-" else text, validate=True)
    except ValueError:
        return b""


_WORDS = {
    "image": "the before-image of a file",
    "object": "how an object of the cluster was, or what became of it",
    "left": "what became of a file",
    "certificate": "the certificate of a kubeconfig",
    "conf": "slurm.conf",
    "space": "the namespace of a kubeconfig",
}


def _unread(found: Trail, word: str, run: str, text: str) -> None:
    """Notes a record that can't be read.

    The begin of a record of ours was cut off with its run: nothing was changed after it. What became of something tells
    only whether somebody changed it since. Without any other one it isn't known how something was.
    """
    what = _WORDS.get(word, f"a line that begins with {word}")
    found.unread.setdefault(run, []).append(what)
    begun = word == "object" and (text.startswith(_HEAD) or _HEAD.startswith(text))
    if word in ("image", "object", "conf") and not begun:
        found.missed.setdefault(run, []).append(what)


_HEAD = '{"path": "'
"""How each record of an object begins."""


def _leaves(left: dict[str, tuple[str, set[str]]], run: str, path: str, sum_: str) -> None:
    """What the last run that had to do with a file found or left there; runs come in order, but for a run's own lines."""
    last, sums = left.get(path, ("", set()))
    if run > last:
        left[path] = run, {sum_}
    elif run == last:
        sums.add(sum_)


def _image(rest: str) -> FileSnapshot:
    run, mode, owner, sum_, content, path = rest.split(" ", 5)
    text = None if content == "?" else base64.b64decode("" if content == "-" else content, validate=True)
    return FileSnapshot(path, run, mode, owner, sum_, frozenset(), text, path)


def _absence(rest: str) -> FileSnapshot:
    run, _, path = rest.partition(" ")
    return FileSnapshot(path, run, "", "", ABSENT, frozenset(), image=path)


def _object(objects: dict[str, dict[str, Any]], rest: str) -> None:
    run, _, text = rest.partition(" ")
    record = json.loads(text)
    one = objects.setdefault(
        record["path"], {"before": record.get("before"), "step": record.get("step", ""), "left": {}}
    )
    if "before" in record:
        one["left"][run] = [*one["left"].get(run, []), None]
    elif one["left"].get(run):
        one["left"][run] = [one_ for one_ in one["left"][run][:-1] if one_] + [record["left"]]
