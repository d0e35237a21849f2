"""What the master needs: programs, space on its disks, a clock that is right, and a kubeconfig of an administrator."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TypedDict

from dws_on_csm.model import render
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Finding, ShellLook, StepContext
from dws_on_csm.stages.preflight import clock, logins

TOOLS = ("awk", "bash", "curl", "expr", "git", "kubectl", "make", "openssl", "podman", "python3", "sed", "which")
"""What the Makefile of dws and this tool call on the master (its deploy.sh, git-version-gen and undeploy's python3)."""

TOOLS_TO_DEPLOY = ("expr", "make", "podman", "python3-yaml", "which")
"""What only the deployment of DWS needs, in the words of the look."""

REQUIRED_KB = 2_000_000
"""Kilobytes of free disk space: the clone is 100 MB; images and podman's unpacked layers need several hundred more."""

REQUIRED_KB_EXTERNAL = 100_000
"""The same where somebody else deploys DWS: the plugin's clone and this tool's records are small."""

_MASTER = """
echo "uid $(id -u)"
echo "time $(date +%s)"
for tool in {tools}; do command -v "$tool" >/dev/null || echo "lacks $tool"; done
python3 -c 'import yaml' 2>/dev/null || echo "lacks python3-yaml"
folder={workarea}
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
at=$(df -P "$folder" | awk 'NR == 2 {{ sub(/^.*% +/, ""); print }}') awk '
    {{ gsub(/\\\\040/, " ", $5) }}
    $5 == ENVIRON["at"] {{ sealed = $6 ~ /(^|,)noexec(,|$)/ }}
    END {{ if (sealed) print "noexec", ENVIRON["at"] }}' /proc/self/mountinfo
for one in "$folder" /var/lib/containers /var/lib; do
    [ ! -d "$one" ] || df -Pk "$one" | awk -v at="$one" 'NR == 2 {{print "room", $4, at}}'
done
[ -r {kubeconfig} ] || echo "lacks-file {kubeconfig}"
expired() {{
    # SSL_CERT_FILE: otherwise OpenSSL 3 reads all CAs of this host first, which takes longer than all else here
    facts=$(printf '%s\\n' "$2" | SSL_CERT_FILE=/dev/null openssl x509 -noout -enddate -checkend 0 2>/dev/null) && return 0
    until=$(printf '%s\\n' "$facts" | sed -n 's/^notAfter=//p')
    [ -z "$until" ] || printf 'expired %s %s\\n' "$1" "$until"
}}
expired {kubeconfig} "$(tr -d '\\r' 2>/dev/null <{kubeconfig} | sed -n 's/^ *client-certificate-data: *"*\\([^"]*\\)"*$/\\1/p' |
    head -n 1 | base64 -d 2>/dev/null)"
expired {pki}/apiserver.crt "$(cat {pki}/apiserver.crt 2>/dev/null)"
for one in {kubeconfig} {pki}/ca.key; do [ ! -e "$one" ] || only_root_writes "$one" || echo "open-file $one"; done
"""


def _look(ctx: StepContext) -> ShellLook:
    master = ctx.site.master
    script = _MASTER.format(
        tools=" ".join(TOOLS),
        workarea=shlex.quote(master.workarea),
        pki=shlex.quote(master.pki),
        kubeconfig=shlex.quote(master.kubeconfig),
    )
    asked_at = time.time()
    return ShellLook(render.script("lib/as.sh") + script, lambda out: _parse(out, asked_at))


class MasterState(TypedDict):
    """The master, as far as this tool needs it.

    root        whether scripts run as root there
    skew        as `clock.skew` has it
    lacks       those of TOOLS, and "python3-yaml", that it lacks
    space       (free kilobytes, folder) of each file system that an install fills
    expired     (file, when it ended) of each certificate that has ended
    noexec      where the file system of the workarea is mounted, if no program can be started from it; else ""
    unreadable, writable  files that root cannot read; that others can write
    """

    root: bool
    skew: float
    lacks: list[str]
    space: list[tuple[int, str]]
    expired: list[tuple[str, str]]
    noexec: str
    unreadable: list[str]
    writable: list[str]


def _parse(out: bytes, asked_at: float) -> MasterState:
    """Parse the look's lines. Raises ValueError."""
    words = [line.partition(" ") for line in lines(out)]

    def rests(name: str) -> list[str]:
        return [rest for word, _, rest in words if word == name]

    def pairs(name: str) -> list[tuple[str, str]]:
        return [(first, second) for first, _, second in (rest.partition(" ") for rest in rests(name))]

    return {
        "root": rests("uid") == ["0"],
        "skew": clock.skew(out, asked_at, time.time()),
        "lacks": rests("lacks"),
        "space": [(int(free), folder) for free, folder in pairs("room")],
        "expired": pairs("expired"),
        "noexec": next(iter(rests("noexec")), ""),
        "unreadable": rests("lacks-file"),
        "writable": rests("open-file"),
    }


def _judge(ctx: StepContext, have: MasterState) -> Sequence[Finding]:
    if not have["root"]:
        return [logins.not_root(ctx.host)]
    spared = TOOLS_TO_DEPLOY if ctx.site.external else ()
    required = REQUIRED_KB_EXTERNAL if ctx.site.external else REQUIRED_KB
    return [
        *tools_missing(ctx.host, [tool for tool in have["lacks"] if tool not in spared]),
        *(_expired(ctx.host, *certificate) for certificate in have["expired"]),
        *([_noexec(ctx, have["noexec"])] if have["noexec"] and not ctx.site.external else ()),
        *map(_unreadable, have["unreadable"]),
        *map(_open, have["writable"]),
        *(_full(ctx.host, required, *space) for space in dict.fromkeys(have["space"]) if space[0] < required),
        *clock.judge(ctx.host, have["skew"]),
    ]


def tools_missing(host: str, tools: Sequence[str]) -> list[Finding]:
    """The finding where the master lacks some of `tools`."""
    fix = "install them with the host's package manager, or correct master.path"
    return [Finding("tools-missing", f"{host} lacks {', '.join(tools)}", fix)] if tools else []


def _expired(host: str, path: str, until: str) -> Finding:
    """A certificate of the control plane that has ended; its name for kubeadm is that of its file."""
    if path.endswith(".crt"):
        text = f"the API server's certificate {path} on {host} expired on {until}, so clients reject it"
        fix = f"run `kubeadm certs renew apiserver` on {host}; then restart the API server: `crictl stop $(crictl ps -q --name "
        return Finding("api-certificate-expired", text, f"{fix}kube-apiserver)`, and the kubelet restarts it")
    text = (
        f"the certificate in {path} on {host} expired on {until}: the API server rejects kubectl there as Unauthorized"
    )
    name = shlex.quote(path.rpartition("/")[2])
    fix = f"run `kubeadm certs renew {name}` on {host}; `kubectl --kubeconfig {shlex.quote(path)} get nodes` there then works"
    return Finding("master-kubeconfig-expired", text, fix)


def _noexec(ctx: StepContext, mount: str) -> Finding:
    text = f"{mount} on {ctx.host}, which has master.workarea, is mounted with noexec: kustomize, which DWS's Makefile puts there "
    fix = f"run `mount -o remount,exec {shlex.quote(mount)}` on {ctx.host}, and correct /etc/fstab; or set master.workarea to a "
    return Finding("workarea-noexec", f"{text}and calls, cannot be started", f"{fix}folder of another file system")


def _unreadable(path: str) -> Finding:
    fix = "set master.kubeconfig to the path of this file on the master"
    return Finding("master-file-missing", f"{path} cannot be read on the master", fix)


def _open(path: str) -> Finding:
    text = f"other users than root can write {path} or a folder above it; a kubeconfig can start programs, as root here"
    return Finding(
        "master-file-open", text, "let only root write this file and the folders above it, or correct master.kubeconfig"
    )


def _full(host: str, required: int, free: int, where: str) -> Finding:
    text = f"{where} on {host} has {free // 1000} MB of free space, but {required // 1000} MB are needed"
    return Finding("disk-full", text, f"free disk space below {where}, for instance with `podman image prune`")


CHECK = Check("master", "master", _look, _judge)
