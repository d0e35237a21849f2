"""Secrets of a site as they could be written somewhere, and where they are found."""

import base64
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from lab import keys, ssh
from lab.model import Lab
from tests.lab.product import Answer

KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
CA_KEY, ADMIN = "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/admin.conf"
CONTROLLERS = ("slurmctl1", "slurmctl2")

# Where secrets belong: on which hosts, where, and why.
DESTINATIONS: tuple[tuple[str, str, str], ...] = (
    ("slurmctl[12]", KUBECONFIG, "SlurmUser's key"),
    ("ncn-m001", "/var/lib/etcd/.*", "the Secrets with the registry's password, and with a pod's kubeconfig"),
    (
        "ncn-w[0-9]+",
        "/var/lib/kubelet/pods/[^/]+/volumes/kubernetes.io~(projected|secret)/.*",
        "a Secret's volume, in memory",
    ),
    ("ncn-m001", f"{CA_KEY}|{ADMIN}|/etc/kubernetes/.*", "the cluster's own keys"),
)

Needles = Mapping[str, tuple[bytes, ...]]
"""What it is -> the pieces of it to look for."""


def of(lab: Lab, kubeconfigs: Mapping[str, str] | None = None) -> Needles:
    """The secrets that an install has to do with: the registry's password as it may be encoded, keys line by line.

    kubeconfigs     name -> text of those that were made; left out: of the hosts that are controllers
    """
    found = dict(password(lab))
    found["the CA's key"] = _key(ssh.run(lab, "ncn-m001", f"cat {CA_KEY}"))
    found["the admin's key"] = _embedded(ssh.run(lab, "ncn-m001", f"cat {ADMIN}"))
    if kubeconfigs is None:
        kubeconfigs = {host: ssh.run(lab, host, f"cat {KUBECONFIG}") for host in CONTROLLERS}
    return found | {f"the key of {name}": _embedded(text) for name, text in kubeconfigs.items()}


def password(lab: Lab) -> Needles:
    """The registry's password as it may be encoded."""
    word = keys.password(lab, "registry").encode()
    return {"the registry's password": (word, _base64(word), _base64(b"admin:" + word))}


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _embedded(kubeconfig: str) -> tuple[bytes, ...]:
    """The private key of a kubeconfig: its lines, and a piece out of the middle as the file has it."""
    found = re.search(r"client-key-data: *(\S+)", kubeconfig)
    assert found, "no key in it"
    pem = base64.b64decode(found[1])
    return (*_key(pem.decode()), found[1][200:260].encode())


def _key(pem: str) -> tuple[bytes, ...]:
    """The lines of a private key, without those that say that it is one."""
    lines = tuple(line.encode() for line in pem.splitlines() if len(line) > 40 and "-----" not in line)
    assert lines, "no key in it"
    return lines


def within(needles: Needles, places: Mapping[str, bytes]) -> list[str]:
    """ "WHAT: WHERE" for each secret that a place has a piece of."""
    return [
        f"{what}: {where}"
        for where, content in places.items()
        for what, pieces in needles.items()
        if any(piece in content for piece in pieces)
    ]


def said(lab: Lab, answer: Answer, since: float) -> dict[str, bytes]:
    """What was told of a run: its output, its folder with journal and report, the system journals since then."""
    assert answer.folder
    told = {"standard output": answer.out.encode(), "standard error": answer.err.encode()}
    told |= {str(path): path.read_bytes() for path in answer.folder.rglob("*") if path.is_file()}
    assert f"{answer.folder}/journal.jsonl" in told and f"{answer.folder}/report.html" in told
    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        command = f"journalctl --quiet --no-pager --output=export --since=@{since:.0f}"
        journals = pool.map(lambda host: ssh.run(lab, host.name, command).encode(), lab.hosts)
        return told | {f"{host.name}: journal": text for host, text in zip(lab.hosts, journals, strict=True)}


# The pieces lie in memory for as long as grep needs them, readable to root alone.
_GREP = r"""umask 077; pieces=$(mktemp /dev/shm/pieces.XXXXXX); trap 'rm -f $pieces' EXIT; cat >$pieces
find / \( -path /proc -o -path /sys \) -prune -o -type f -newerct @{since} ! -path $pieces -print0 |
    xargs -0 -r grep -s -laF -f $pieces || [ $? = 123 ]"""


def files(lab: Lab, needles: Needles, since: float) -> tuple[list[str], list[str]]:
    """The files of all hosts, written since then, with a piece of a secret: destinations "HOST:PATH", and leaks."""
    feed = "".join(f"{piece.decode()}\n" for pieces in needles.values() for piece in pieces)

    def search(host: str) -> list[str]:
        return ssh.run(lab, host, _GREP.format(since=int(since)), feed, deadline=180).splitlines()

    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        hits = zip(lab.hosts, pool.map(lambda host: search(host.name), lab.hosts), strict=True)
        found = [(host.name, path) for host, paths in hits for path in paths]
    kept = [f"{host}:{path}" for host, path in found if _belongs(host, path)]
    return kept, [f"a secret: {host}:{path}" for host, path in found if not _belongs(host, path)]


def _belongs(host: str, path: str) -> bool:
    return any(re.fullmatch(where, host) and re.fullmatch(which, path) for where, which, _ in DESTINATIONS)
