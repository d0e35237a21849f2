"""The support archive of `invoke doctor --archive`: states, logs and journals of a site, secrets redacted, as a .tar.gz."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import subprocess
import tarfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from dws_on_csm.commands.doctor.diagnosis import Diagnosis, records
from dws_on_csm.commands.logs import merge
from dws_on_csm.commands.logs.entries import Entry
from dws_on_csm.commands.logs.pod_log import PODS
from dws_on_csm.commands.logs.sources import sources
from dws_on_csm.config.load import ROOT
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import READ_ERRORS, Lost, error_text
from dws_on_csm.model.lines import lines
from dws_on_csm.model.secret import REDACTED, Secret
from dws_on_csm.redaction import redact
from dws_on_csm.redaction.known_secrets import Known
from dws_on_csm.runner.journal import RUNS
from dws_on_csm.runner.read_only import Reading
from dws_on_csm.stages.dws import installed
from dws_on_csm.transport.output import tail
from dws_on_csm.transport.remote_shell import RemoteShell

BACK = 24 * 3600.0
"""Seconds of logs that the archive has."""
LINES, CHARACTERS = 40_000, 30_000_000
"""Most entries of logs, and characters of them: the newest are taken."""
HOST_CHARACTERS = 2_000_000
"""Most characters of a host's own file: those of all hosts are in memory until they are written."""
JOURNALS = 5
"""Journals of the last runs that the archive has."""

README = """A support archive of dws-on-csm, {at}.

doctor.jsonl     the doctor's findings, and what it could not check
looks/HOST.json  everything that the doctor read on a host
logs.txt         logs of slurmctld's plugin and of DWS's pods in the last 24 hours, merged, all times by one clock
runs/            journals of the last runs
hosts/HOST.txt   versions, services and jobs of a host; the last 400 lines of slurmctld's log
cluster/         DWS's objects and events; of Secrets only the names
site.yaml        the site file
versions.txt     versions of this tool and of its libraries

Keys, passwords and tokens are redacted: "{gone}" is in their place. The names of hosts and users are not redacted.
{unread}"""

Member = tuple[str, str]
"""A file's name in the archive and its text."""


def write(path: Path, members: Iterable[Member], known: Known = redact.NOTHING) -> None:
    """Write `members` to the new .tar.gz `path`, complete or not at all, readable for its owner alone. Raises OSError.

    `known`: secrets of this site, which are redacted wherever they are.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with (
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for name, text in members:
                _add(archive, f"{path.name.removesuffix('.tar.gz')}/{name}", redact.text(text, known))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode(errors="replace")
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))


# --- known secrets


def known_secrets(reading: Reading) -> tuple[Known, str]:
    """The site's known secrets, which only this machine's memory holds; and which of them could not be read, in sentences."""
    site, unread = reading.run.site, []
    values: list[Secret] = []
    pieces: list[str] = []
    secret = f"{site.registry.secret_namespace}/{site.registry.secret_name}"
    unsearched = "could not be read, so the archive was not searched for it:"
    try:
        path = "/api/v1/namespaces/{}/secrets/{}".format(*secret.split("/"))
        data = (reading.run.reach.cluster().get(path) or {}).get("data") or {}
        values = [Secret(base64.b64decode(text)) for name, text in data.items() if name != "username"]
    except READ_ERRORS as error:
        unread.append(f"The password in the Secret {secret} {unsearched} {error_text(error)}\n")
    for host in site.controllers:
        try:
            pieces += _pieces(reading, host.name)
        except READ_ERRORS as error:
            unread.append(f"The plugin's private key on {host.name} {unsearched} {error_text(error)}\n")
    return Known(values, pieces), "".join(unread)


def _pieces(reading: Reading, host: str) -> list[str]:
    """Checksums of the pieces of the plugin's private key on a controller."""
    script = render.script("lib/safe_file.sh", "controller/key_pieces.sh", file=names.KUBECONFIG)
    answer = reading.run.reach.session(host).run(script, deadline=30.0)
    if answer.code:
        raise Lost(host, " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}")
    return [line.split()[0] for line in lines(answer.out, "replace") if line.strip()]


# --- the archive's files


def members(reading: Reading, diagnosis: Diagnosis, unread: str = "") -> Iterator[Member]:
    """The files of the archive; where something could not be read, its file says why. `unread`: see `known_secrets`."""
    yield "README.txt", README.format(at=time.strftime("%Y-%m-%d %H:%M %z"), gone=REDACTED, unread=unread)
    results = records(diagnosis, diagnosis.exit_code)
    yield "doctor.jsonl", "".join(json.dumps(redact.data(record)) + "\n" for record in results)
    yield "site.yaml", reading.run.site.path.read_text(errors="replace")
    yield "versions.txt", _versions()
    yield from _looks(reading)
    yield from _hosts(reading)
    yield from _cluster(reading)
    yield from _runs(reading.run.site.master.host.name)
    yield "logs.txt", _logs(reading)


def _dumped(value: Any) -> str:
    return json.dumps(redact.data(value), indent=1, default=str) + "\n"


def _looks(reading: Reading) -> Iterator[Member]:
    board = reading.run.board
    for host in reading.run.site.hosts():
        results = {key: values[host.name] for key, values in board.facts.found.items() if host.name in values}
        failed = {key: failed.text for (key, name), failed in board.failed.items() if name == host.name}
        if reason := reading.silent.get(host.name):
            failed["connect"] = reason.text
        yield f"looks/{host.name}.json", _dumped({"found": results, "failed": failed})


def _hosts(reading: Reading) -> Iterator[Member]:
    site = reading.run.site
    script = render.script(
        "lib/as.sh",
        "lib/slurmctld.sh",
        "host/support.sh",
        folder=site.slurm.folder,
        unit=site.slurm.service,
        state=STATE,
    )

    def read(session: RemoteShell) -> Member:
        try:
            answer = session.run(script, deadline=120.0)
            text = (answer.out + answer.err).decode(errors="replace")
        except READ_ERRORS as error:
            text = f"{error_text(error)}\n"
        if len(text) > HOST_CHARACTERS:
            text = f"{text[:HOST_CHARACTERS]}\n(truncated; the full text has {len(text)} characters)\n"
        return f"hosts/{session.host}.txt", text

    with ThreadPoolExecutor(site.ssh.connections) as pool:
        yield from pool.map(read, reading.sessions.open())


def _cluster(reading: Reading) -> Iterator[Member]:
    namespace = reading.run.site.access.namespace
    apps = f"/apis/apps/v1/namespaces/{names.NAMESPACE}"
    paths = {
        **{kind: f"{apps}/{kind}" for kind in ("deployments", "replicasets")},
        "pods": PODS,
        **{kind: f"/api/v1/namespaces/{names.NAMESPACE}/{kind}" for kind in ("services", "endpoints", "events")},
        "events-of-workflows": f"/api/v1/namespaces/{namespace}/events",
        "nodes": "/api/v1/nodes",
        "certificates": f"/apis/cert-manager.io/v1/namespaces/{names.NAMESPACE}/certificates",
        **{name: f"{names.RBAC}/clusterroles/{name}" for name in names.ROLES},
        "binding": f"{names.RBAC}/clusterrolebindings/{names.BINDING}",
    }
    paths |= {label.replace(" ", "-"): path for label, path in installed.TRACES.items() if "Webhook" in label}
    for name, path in paths.items():
        yield f"cluster/{name}.json", object_text(reading, path)
    yield "cluster/secrets.txt", _secrets(reading)
    yield from _dws_objects(reading)


def object_text(reading: Reading, path: str) -> str:
    """What the API has at this path, as JSON; or why it cannot be read."""
    try:
        return _dumped(_trimmed(reading.run.reach.cluster().get(path)))
    except READ_ERRORS as error:
        return f"{path}: {error_text(error)}\n"


def _trimmed(value: Any) -> Any:
    """An API object without the API server's own notes."""
    if isinstance(value, dict):
        return {key: _trimmed(item) for key, item in value.items() if key != "managedFields"}
    return [_trimmed(item) for item in value] if isinstance(value, list) else value


def _secrets(reading: Reading) -> str:
    try:
        secrets = reading.run.reach.cluster().names(f"/api/v1/namespaces/{names.NAMESPACE}/secrets")
    except READ_ERRORS as error:
        return f"{error_text(error)}\n"
    return "".join(f"{name}\n" for name in secrets)


def _dws_objects(reading: Reading) -> Iterator[Member]:
    """DWS's own objects, by kind, and the versions of their CRDs."""
    try:
        cluster = reading.run.reach.cluster()
        crds = installed.crds(cluster)
        yield "cluster/crds.json", _dumped(crds)
        for plural, crd in crds.items():
            yield f"cluster/{plural}.json", _dumped(_trimmed(installed.objects(cluster, plural, crd)))
    except READ_ERRORS as error:
        yield "cluster/crds.txt", f"{error_text(error)}\n"


def _runs(master: str) -> Iterator[Member]:
    """The journals of the last runs on this site, which their first line shows by the master's name."""
    journals = sorted(RUNS.glob("*/journal.jsonl"), reverse=True)
    ours = (path for path in journals if f'"master": ["{master}"]' in path.open(errors="replace").readline())
    for path in islice(ours, JOURNALS):
        yield f"runs/{path.parent.name}.jsonl", path.read_text(errors="replace")


def _logs(reading: Reading) -> str:
    """The newest entries of all logs, in order of time."""
    site = reading.run.site
    with sources(site, time.time() - BACK, follow=False) as logs:
        newest = newest_entries(merge.past(logs))
        cut = "".join(f"{log.cut}\n" for log in logs.hosts if log.cut)
    stamped = (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S%z', time.localtime(entry.at))} {entry.source} {entry.text}"
        for entry in newest
    )
    return cut + "\n".join(stamped) + "\n"


def newest_entries(entries: Iterable[Entry]) -> deque[Entry]:
    """The last entries, at most LINES and CHARACTERS of them."""
    newest, size = deque[Entry](), 0
    for entry in entries:
        newest.append(entry)
        size += len(entry.text)
        while len(newest) > LINES or size > CHARACTERS:
            size -= len(newest.popleft().text)
    return newest


def _versions() -> str:
    git = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    commit = git.stdout.strip() or "unknown version"
    packages = [
        f"{name} {metadata.version(name)}" for name in ("fabric", "invoke", "paramiko", "kubernetes", "cryptography")
    ]
    lines = [f"dws-on-csm {commit}", f"Python {platform.python_version()}", platform.platform(), *packages]
    return "".join(f"{line}\n" for line in lines)
