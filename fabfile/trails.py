"""What lies on a host of a run and all later ones: before-images of files and objects, and what became of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fabfile import names
from fabfile.stages.earlier import ABSENT, File


@dataclass
class Trail:
    """What lies on a host of a run and all later ones.

    files        path -> how it was before the first of them that changed it
    certificates run -> that of the kubeconfig in its before-image (PEM)
    objects      path -> how it was, on the master alone; `left` what it became
    conf         slurm.conf's real path and its text now
    unread       run -> its records that can't be read, in words
    missed       run -> those of them without which it isn't known how something was that it changed
    """

    files: dict[str, File] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    conf: tuple[str, str] = ("", "")
    unread: dict[str, list[str]] = field(default_factory=dict)
    missed: dict[str, list[str]] = field(default_factory=dict)


def trail(lines: Sequence[str]) -> Trail:
    """What the lines of templates/chain.sh say."""
    found = Trail()
    left: dict[str, tuple[str, set[str]]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        try:
            _take(found, left, word, rest)
        except (KeyError, TypeError, ValueError):
            run, _, text = rest.partition(" ")
            _unread(found, word, run, text)
    found.files = {path: replace(one, left=frozenset(left[path][1])) for path, one in found.files.items()}
    return found


def _take(found: Trail, left: dict[str, tuple[str, set[str]]], word: str, rest: str) -> None:
    """Takes a line; raises what a record raises that was cut off or isn't one of ours."""
    if word in ("image", "absent"):
        one = _image(rest) if word == "image" else _absence(rest)
        found.files.setdefault(one.path, one)
        _leaves(left, one.run, one.path, one.sum)
    elif word == "left":
        run, sum_, path = rest.split(" ", 2)
        _leaves(left, run, path, sum_)
    elif word == "object":
        _object(found.objects, rest)
    elif word == "certificate":
        run, _, text = rest.partition(" ")
        found.certificates[run] = base64.b64decode(text)
    elif word == "conf":
        path, _, text = rest.partition(" ")
        found.conf = path, base64.b64decode(text).decode(errors="surrogateescape")


_WORDS = {
    "image": "the before-image of a file",
    "object": "how an object of the cluster was, or what became of it",
    "left": "what became of a file",
    "certificate": "the certificate of a kubeconfig",
    "conf": "slurm.conf",
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


def _image(rest: str) -> File:
    run, mode, owner, sum_, content, path = rest.split(" ", 5)
    text = None if path == names.KUBECONFIG else base64.b64decode("" if content == "-" else content, validate=True)
    return File(path, run, mode, owner, sum_, frozenset(), text)


def _absence(rest: str) -> File:
    run, _, path = rest.partition(" ")
    return File(path, run, "", "", ABSENT, frozenset())


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
