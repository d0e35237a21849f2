"""What the master itself shows: its kubeconfig, registry and sources as it reaches them, hosts that may run slurmctld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from dws_on_csm.config.site import Site
from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Refused
from dws_on_csm.stages.facts import Controller
from dws_on_csm.stages.slurm.slurmctld_hosts import entries
from dws_on_csm.transport.remote_shell import RemoteShell

REGISTRY = "registry.local"
SOURCE = "https://github.com/DataWorkflowServices/dws.git"
USUAL = ("slurmctl", "slurmctld", "slurm", "slurmctl1", "slurm1")
"""Names that sites give to the host of slurmctld."""

# A name that no server knows may take the resolver seconds: all are asked at once. Nothing is stored here.
SCRIPT = r"""
fact host "$(uname -n)"
for one in "$kubeconfig" /root/.kube/config; do
    if [ -r "$one" ]; then fact kubeconfig "$one"; break; fi
done
if [ -r "$pki/ca.crt" ] && [ -r "$pki/ca.key" ]; then fact pki "$pki"; fi
command -v kubectl >/dev/null && fact kubectl yes
probe() {
    timeout -k 1 20 curl --proto =https --silent --output /dev/null --max-time 15 \
        --write-out '%{http_code}' --url "$1" 2>/dev/null </dev/null
}
{ fact registry "$(probe "https://$registry/v2/")"; } &
{ fact source "$(probe "$source/info/refs?service=git-upload-pack")"; } &
for one in $usual; do
    { if timeout -k 1 4 getent hosts "$one" >/dev/null 2>&1; then fact resolves "$one"; fi; } &
done
wait
awk '{ sub(/#.*/, ""); for (i = 2; i <= NF; i++) if (tolower($i) ~ /^slurm[a-z]*[-0-9]*$/) print "listed=" $i }' /etc/hosts
sed -n 's/^ *HTTPS_PROXY="\{0,1\}\([^"]*\)"\{0,1\} *$/proxy=\1/p' /etc/sysconfig/proxy /etc/environment 2>/dev/null
sed -n 's/^ *server: *\([^ ]*\) *$/server=\1/p' "$kubeconfig" 2>/dev/null | head -n 1
"""


@dataclass(frozen=True)
class MasterView:
    """What the master shows.

    host        its own name
    kubeconfig  that root can read; "" for none. pki: whether the CA's key is in the usual folder
    server      the API server in it
    registry, source   the HTTP codes that curl got; "000" or "" where it got none
    proxy       HTTPS_PROXY of its settings, without user and password
    names       hosts that may run slurmctld, each with how that was found
    """

    host: str
    kubeconfig: str
    pki: bool
    server: str
    registry: str
    source: str
    proxy: str
    names: Mapping[str, str]


def look(session: RemoteShell, site: Site) -> MasterView:
    """The look at the master, as root. Raises RemoteError."""
    given = {"kubeconfig": site.master.kubeconfig, "pki": site.master.pki, "registry": REGISTRY, "source": SOURCE}
    script = render.script("lib/as.sh", usual=" ".join(USUAL), **given) + SCRIPT
    return parse(session.run(script, deadline=site.deadlines.look).out)


def parse(out: bytes) -> MasterView:
    """Parse the look's lines."""
    pairs = parse_pairs(out, "replace")
    single = first_values(pairs)
    names = {name: f"in /etc/hosts of {single.get('host', 'the master')}" for name in all_values(pairs, "listed")}
    for name in all_values(pairs, "resolves"):
        names.setdefault(name, "the master resolves this name")
    return MasterView(
        host=single.get("host", ""),
        kubeconfig=single.get("kubeconfig", ""),
        pki="pki" in single,
        server=single.get("server", ""),
        registry=single.get("registry", ""),
        source=single.get("source", ""),
        proxy=_without_login(single.get("proxy", "")),
        names=names,
    )


def _without_login(url: str) -> str:
    """The URL without user, password and path; "" for what is none."""
    try:
        split = urlsplit(url)
        host = split.netloc.rpartition("@")[2]
        return urlunsplit((split.scheme, host, "", "", "")) if split.scheme in ("http", "https") and host else ""
    except ValueError:
        return ""


def controllers_in(state: Controller, site: Site) -> Sequence[str]:
    """The SlurmctldHosts of a slurm.conf that lies on the master itself, by name."""
    try:
        named = entries(site, state["files"])
    except Refused:
        return ()
    return tuple(entry.names[0] for entry in named if entry.names)


def answers(code: str) -> bool:
    """Whether an HTTP code shows that a registry or a git server answers."""
    return code in ("200", "401")
