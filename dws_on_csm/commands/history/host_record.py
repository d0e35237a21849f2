"""What a run and all later ones recorded on a host: before-images of files and objects, and what became of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model.errors import MALFORMED
from dws_on_csm.model.snapshot import ABSENT, FileSnapshot


@dataclass
class HostRecord:
    """What a run and all later ones recorded on a host.

    files       path -> its state before the first of them that changed it; by the path that everybody uses
    objects     path -> its state then, on the master alone; `left`: its states after each run
    conf        slurm.conf's present text; None where there is none
    namespace   the namespace in the present kubeconfig; "" where there is none
    unreadable  run -> its records that cannot be read, in words
    missing     run -> those of them without which a former state is unknown
    """

    files: dict[str, FileSnapshot] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    conf: str | None = None
    namespace: str = ""
    unreadable: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)


def compared_paths(site: Site) -> tuple[str, ...]:
    """The paths by which a rollback compares files, wherever links lead from there."""
    plugin_files = (f"{site.slurm.folder}/{name}" for name in (names.PLUGIN_LUA, names.PLUGIN_CONF))
    return (names.KUBECONFIG, site.slurm.conf, *plugin_files)


@dataclass
class _Parsed:
    """What was parsed so far. `meanings`: real path -> the path that everybody uses; `left`: path -> the last run that left it,
    and its checksums; `certificates` and `namespaces` of kubeconfigs, by run and path."""

    record: HostRecord = field(default_factory=HostRecord)
    meanings: dict[str, str] = field(default_factory=dict)
    left: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    certificates: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    namespaces: dict[tuple[str, str], str] = field(default_factory=dict)


def parse_host_record(lines: Sequence[str]) -> HostRecord:
    """The record in the output of templates/host/host_record.sh."""
    parsed = _Parsed()
    for line in lines:
        word, _, rest = line.partition(" ")
        try:
            _parse_line(parsed, word, rest)
        except MALFORMED:
            run, _, text = rest.partition(" ")
            _note_unreadable(parsed.record, word, run, text)
    files = parsed.record.files.items()
    finished = {path: replace(image, left=frozenset(parsed.left[path][1])) for path, image in files}
    return replace(parsed.record, files=finished)


def _parse_line(parsed: _Parsed, word: str, rest: str) -> None:
    """Add one line; raises one of MALFORMED for a line that is incomplete or not ours."""
    if word == "means":
        path, _, meaning = rest.partition("\t")
        parsed.meanings[path] = meaning
    elif word in ("image", "absent"):
        _add_file(parsed, _image(rest) if word == "image" else _absence(rest))
    elif word == "left":
        run, sum_, path = rest.split(" ", 2)
        _add_left(parsed.left, run, parsed.meanings.get(path, path), sum_)
    elif word == "object":
        _add_object(parsed.record.objects, rest)
    elif word == "certificate":
        run, text, path = rest.split(" ", 2)
        parsed.certificates.setdefault((run, path), []).append(_decoded(text))
    elif word == "space":
        run, namespace, path = rest.split(" ", 2)
        if run == "-":
            parsed.record.namespace = namespace
        else:
            parsed.namespaces[run, path] = namespace
    elif word == "conf":
        parsed.record.conf = base64.b64decode(rest, validate=True).decode(errors="surrogateescape")


def _add_file(parsed: _Parsed, image: FileSnapshot) -> None:
    path, key = parsed.meanings.get(image.image, image.image), (image.run, image.image)
    certificates, namespace = parsed.certificates.get(key), parsed.namespaces.get(key, "")
    image = replace(image, path=path, certificates=certificates, space=namespace)
    parsed.record.files.setdefault(path, image)
    _add_left(parsed.left, image.run, path, image.sum)


def _decoded(text: str) -> bytes:
    """A certificate from base64; b"" for an unreadable one, which is as useless as an expired one."""
    try:
        return base64.b64decode("" if text == "-" else text, validate=True)
    except ValueError:
        return b""


_WORDS = {
    "image": "the before-image of a file",
    "object": "an object of the cluster, before or after the run",
    "left": "the checksum of a file after the run",
    "certificate": "the certificate in a kubeconfig",
    "conf": "slurm.conf",
    "space": "the namespace in a kubeconfig",
}


def _note_unreadable(record: HostRecord, word: str, run: str, text: str) -> None:
    """Note a line that cannot be read.

    An object's record that breaks off after our beginning was interrupted with its run: nothing was changed after it. What
    became of something only tells whether somebody changed it since. Without any other record a former state is unknown.
    """
    name = _WORDS.get(word, f"a line that begins with {word}")
    record.unreadable.setdefault(run, []).append(name)
    interrupted = word == "object" and (text.startswith(_HEAD) or _HEAD.startswith(text))
    if word in ("image", "object", "conf") and not interrupted:
        record.missing.setdefault(run, []).append(name)


_HEAD = '{"path": "'
"""The beginning of each record of an object."""


def _add_left(left: dict[str, tuple[str, set[str]]], run: str, path: str, sum_: str) -> None:
    """A file's checksums that the last run found or left; runs come in order, except for a run's own lines."""
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


def _add_object(objects: dict[str, dict[str, Any]], rest: str) -> None:
    """Add an object's state before a step of a run ("before"), or after it ("left"): then nothing of that step is open."""
    run, _, text = rest.partition(" ")
    record = json.loads(text)
    first = {"before": record.get("before"), "step": record.get("step", ""), "left": {}}
    left = objects.setdefault(record["path"], first)["left"]
    if "before" in record:
        left[run] = [*left.get(run, []), None]
    elif left.get(run):
        left[run] = [state for state in left[run][:-1] if state] + [record["left"]]
