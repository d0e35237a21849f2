"""The support archive of `invoke doctor --bundle`: what was seen, said and done, without secrets, for whoever helps."""

from __future__ import annotations

import base64
import json
import platform
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import islice
from typing import Any

from dws_on_csm.commands.doctor.diagnosis import Diagnosis, records
from dws_on_csm.commands.logs import merge
from dws_on_csm.commands.logs.entries import Entry
from dws_on_csm.commands.logs.pod_log import PODS
from dws_on_csm.commands.logs.sources import sources
from dws_on_csm.config.load import ROOT
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.errors import UNTOLD, Lost, untold
from dws_on_csm.model.lines import lines
from dws_on_csm.model.secret import GONE, Secret
from dws_on_csm.redaction import redact
from dws_on_csm.redaction.known_secrets import Known
from dws_on_csm.runner.inspect import Reading
from dws_on_csm.runner.journal import RUNS
from dws_on_csm.stages.access import rbac
from dws_on_csm.stages.dws import installed
from dws_on_csm.transport.output import tail
from dws_on_csm.transport.session import Session

BACK = 24 * 3600.0
"""Seconds of logs."""
LINES, ROOM = 40_000, 30_000_000
"""Entries of logs at most, and characters of them: the newest."""
MOST = 2_000_000
"""Characters of what a host says of itself: all hosts' are in memory until they are written."""
JOURNALS = 5
"""Journals of the last runs."""

ABOUT = """A support archive of dws-on-csm, {at}.

doctor.jsonl     what is wrong, by name, and what could not be seen
looks/HOST.json  everything that was found on a host
logs.txt         what slurmctld's plugin and DWS's pods said in the last 24 hours, merged, one clock
runs/            journals of the last runs
hosts/HOST.txt   versions, services and jobs there; the last 400 lines of slurmctld's log
cluster/         DWS's objects and events; of Secrets the names alone
site.yaml        the site file
versions.txt     this tool and what it is made of

Keys, passwords and tokens are taken out: "{gone}" stands where one was. Names of hosts and users are in it.
{unread}"""

Member = tuple[str, str]
"""A file's name in the archive and its text."""


def known(reading: Reading) -> tuple[Known, str]:
    """What is known to be secret on this site, in this machine's memory; and what of it could not be read, in sentences."""
    site, unread = reading.run.site, []
    values: list[Secret] = []
    pieces: list[str] = []
    secret = f"{site.registry.secret_namespace}/{site.registry.secret_name}"
    try:
        path = "/api/v1/namespaces/{}/secrets/{}".format(*secret.split("/"))
        data = (reading.run.reach.cluster().get(path) or {}).get("data") or {}
        values = [Secret(base64.b64decode(text)) for name, text in data.items() if name != "username"]
    except UNTOLD as error:
        unread.append(
            f"The password in the Secret {secret} could not be read, and so not be searched for: {untold(error)}\n"
        )
    for host in site.controllers:
        try:
            pieces += _pieces(reading, host.name)
        except UNTOLD as error:
            unread.append(
                f"The plugin's key on {host.name} could not be read, and so not be searched for: {untold(error)}\n"
            )
    return Known(values, pieces), "".join(unread)


def _pieces(reading: Reading, host: str) -> list[str]:
    """Sums of the pieces of the key that the plugin has on a controller."""
    script = render.script("lib/safe_file.sh", "controller/key_pieces.sh", file=names.KUBECONFIG)
    answer = reading.run.reach.session(host).run(script, deadline=30.0)
    if answer.code:
        raise Lost(host, " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}")
    return [line.split()[0] for line in lines(answer.out, "replace") if line.strip()]


def members(reading: Reading, diagnosis: Diagnosis, unread: str = "") -> Iterator[Member]:
    """The files of the archive. What can't be read is said in its place; `unread`: which secrets could not be searched for."""
    yield "README.txt", ABOUT.format(at=time.strftime("%Y-%m-%d %H:%M %z"), gone=GONE, unread=unread)
    yield "doctor.jsonl", "".join(json.dumps(redact.data(record)) + "\n" for record in records(diagnosis))
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
        found = {key: some[host.name] for key, some in board.facts.found.items() if host.name in some}
        failed = {key: why for (key, name), why in board.failed.items() if name == host.name}
        if reason := reading.silent.get(host.name):
            failed["connect"] = reason.text
        yield f"looks/{host.name}.json", _dumped({"found": found, "failed": failed})


def _hosts(reading: Reading) -> Iterator[Member]:
    site = reading.run.site
    script = render.script(
        "lib/as.sh",
        "lib/slurmctld.sh",
        "lib/log_file.sh",
        "host/support.sh",
        folder=site.slurm.folder,
        unit=site.slurm.service,
    )

    def one(session: Session) -> Member:
        try:
            answer = session.run(script, deadline=120.0)
            said = (answer.out + answer.err).decode(errors="replace")
        except UNTOLD as error:
            said = f"{untold(error)}\n"
        if len(said) > MOST:
            said = f"{said[:MOST]}\n(cut here: there were {len(said)} characters)\n"
        return f"hosts/{session.host}.txt", said

    with ThreadPoolExecutor(site.ssh.connections) as pool:
        yield from pool.map(one, reading.sessions.open())


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
        "role": f"{rbac.RBAC}/clusterroles/{names.role(reading.run.site)}",
        "binding": f"{rbac.RBAC}/clusterrolebindings/{names.BINDING}",
    }
    paths |= {label.replace(" ", "-"): path for label, path in installed.TRACES.items() if "Webhook" in label}
    for name, path in paths.items():
        yield f"cluster/{name}.json", _asked(reading, path)
    yield "cluster/secrets.txt", _secrets(reading)
    yield from _own(reading)


def _asked(reading: Reading, path: str) -> str:
    try:
        return _dumped(_trimmed(reading.run.reach.cluster().get(path)))
    except UNTOLD as error:
        return f"{path}: {untold(error)}\n"


def _trimmed(value: Any) -> Any:
    """Without what the API server notes for itself."""
    if isinstance(value, dict):
        return {key: _trimmed(item) for key, item in value.items() if key != "managedFields"}
    return [_trimmed(item) for item in value] if isinstance(value, list) else value


def _secrets(reading: Reading) -> str:
    try:
        found = reading.run.reach.cluster().names(f"/api/v1/namespaces/{names.NAMESPACE}/secrets")
    except UNTOLD as error:
        return f"{untold(error)}\n"
    return "".join(f"{name}\n" for name in found)


def _own(reading: Reading) -> Iterator[Member]:
    """DWS's own objects, by kind, and the versions of their CRDs."""
    try:
        cluster = reading.run.reach.cluster()
        crds = installed.crds(cluster)
        yield "cluster/crds.json", _dumped(crds)
        for plural, crd in crds.items():
            yield f"cluster/{plural}.json", _dumped(_trimmed(installed.objects(cluster, plural, crd)))
    except UNTOLD as error:
        yield "cluster/crds.txt", f"{untold(error)}\n"


def _runs(master: str) -> Iterator[Member]:
    """The journals of the last runs on this site: their first line names the master."""
    journals = sorted(RUNS.glob("*/journal.jsonl"), reverse=True)
    ours = (path for path in journals if f'"master": ["{master}"]' in path.open(errors="replace").readline())
    for path in islice(ours, JOURNALS):
        yield f"runs/{path.parent.name}.jsonl", path.read_text(errors="replace")


def _logs(reading: Reading) -> str:
    """The newest entries, in order."""
    site = reading.run.site
    with sources(site, time.time() - BACK, follow=False) as found:
        newest = _newest(merge.past(found))
        cut = "".join(f"{log.cut}\n" for log in found.hosts if log.cut)
    stamped = (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S%z', time.localtime(one.at))} {one.source} {one.text}" for one in newest
    )
    return cut + "\n".join(stamped) + "\n"


def _newest(entries: Iterable[Entry]) -> deque[Entry]:
    """The last of them, as many as there is room for."""
    kept, size = deque[Entry](), 0
    for entry in entries:
        kept.append(entry)
        size += len(entry.text)
        while len(kept) > LINES or size > ROOM:
            size -= len(kept.popleft().text)
    return kept


def _versions() -> str:
    git = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    commit = git.stdout.strip() or "not known"
    packages = [
        f"{name} {metadata.version(name)}" for name in ("fabric", "invoke", "paramiko", "kubernetes", "cryptography")
    ]
    lines = [f"dws-on-csm {commit}", f"Python {platform.python_version()}", platform.platform(), *packages]
    return "".join(f"{line}\n" for line in lines)
