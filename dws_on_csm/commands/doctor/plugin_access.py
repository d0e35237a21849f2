"""The plugin's way to the API server: its kubeconfig, kubectl with that file as SlurmUser, and what the server answers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS, drop_in, repair_fix, shows_unit
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, Finding, ShellLook, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.facts import API_SERVER, KUBECONFIG
from dws_on_csm.stages.pod import discover, service_account
from dws_on_csm.stages.slurm import controller

SLOW = 3000
"""Milliseconds of one kubectl call that a user notices: sbatch waits for one, and scontrol times out after 10 s."""

TIMED_OUT = "124"
"""The exit code of `timeout` where it ended kubectl, which then had no time to say what it asked."""


def _look_reach(ctx: StepContext) -> ShellLook:
    settings = {"file": names.KUBECONFIG, "slow": str(SLOW)}
    script = render.script("lib/temporary.sh", "controller/doctor_reach.sh", **settings)
    return ShellLook(script, parse_reach, controller_library.text(ctx))


def parse_reach(out: bytes) -> Value:
    """The probe's lines as a dict; `token`: each file with a token that kubectl may use besides the certificate."""
    answers = parse_pairs(out, "replace")
    single = first_values(answers)
    took = {"milliseconds": int(single["milliseconds"])} if "code" in single else {}
    return single | took | {"token": all_values(answers, "token")}


def judge_reach(ctx: StepContext, answer: Value) -> Sequence[Finding]:
    """What keeps the plugin's kubectl from the API server."""
    host, file = ctx.host, names.KUBECONFIG
    kubeconfig = ctx.facts.known(KUBECONFIG).get(host)
    by_account = bool(kubeconfig and service_account.in_file(kubeconfig))
    findings = [] if by_account else [_token(ctx, path) for path in answer["token"]]
    if "there" in answer and "readable" not in answer:
        text = f"{answer['user']} cannot read {file} on {host}; the plugin runs as {answer['user']}, so {SBATCH_FAILS}"
        findings.append(Finding("kubeconfig-unreadable", text, repair_fix(ctx, "access")))
    if closed := answer.get("closed"):
        text = f"{answer['user']} cannot write /tmp on {host} (mode and owner: {closed}), where the plugin's kubectl has its "
        text += f"cache, so {SBATCH_FAILS}"
        findings.append(Finding("tmp-closed", text, f"run `chmod 1777 /tmp` on {host}"))
    if "sealed" in answer:
        findings.append(_sealed(ctx, answer["sealed"]))
    if "code" in answer and controller.state(ctx)["kubectl"]:
        findings += kubectl_findings(ctx, answer)
    return findings


def _token(ctx: StepContext, path: str) -> Finding:
    text = f"{path} on {ctx.host} has a token that kubectl may use instead of the certificate, and so get other rights"
    fix = "set automountServiceAccountToken: false in the pod's template"
    if not discover.pod_of(ctx):
        fix = f"remove {path}: only a pod needs one"
    if path == names.KUBECONFIG:
        fix = f"remove {path}; then {repair_fix(ctx, 'access')}, which makes a new one"
    return Finding("token-beside-certificate", text, fix)


def _server(ctx: StepContext) -> str:
    """The API server of the kubeconfig, for a message."""
    kubeconfig = ctx.facts.known(KUBECONFIG).get(ctx.host)
    return (kubeconfig and kubeconfig.get("server")) or "the server in its kubeconfig"


_REACH: Fact[Value] = Fact("doctor", "reach")


def _reach_it(ctx: StepContext, server: str) -> list[str]:
    """The other controllers whose kubectl gets an answer from this address."""
    answering = [host for host, answer in ctx.facts.known(_REACH).items() if host != ctx.host and "status" in answer]
    files = {host: ctx.facts.known(KUBECONFIG).get(host) for host in answering}
    return [host for host, file in files.items() if file and file.get("server") == server]


def _way_fix(host: str, server: str) -> str:
    """Where to look for what is wrong between a host and the API server, whose address is right."""
    name = server.partition("://")[2].partition("/")[0]
    words = shlex.quote(name.rpartition(":")[0] or name)
    fix = f"run `curl -kv --max-time 10 {shlex.quote(server)}/version` on {host}: it shows whether the name is unknown (`getent "
    fix += (
        f"hosts {words}`; correct /etc/hosts or DNS there), the route is missing (ip route get) or a firewall drops it"
    )
    return f"{fix}; where the connection is refused, another machine may have that address, too (`ip neigh show {words}` there)"


def _tls_fix(host: str, server: str, output: str) -> str:
    """What to do where the connection comes about, and its TLS does not, by the words of Go's TLS; "" where that is not so."""
    if "TLS handshake timeout" in output:
        name = shlex.quote(urlsplit(server).hostname or server)
        fix = f"run `ping -c 3 -M do -s 1400 {name}` and `ping -c 3 {name}` on {host}: if only the second is answered, large "
        return f"{fix}packets are lost, so correct the MTU of an interface on the way"
    if "x509: certificate is valid for" in output:
        fix = "set access.server in the site file to a name or an address that the API server's certificate has; or add this one "
        return f"{fix}to certSANs of kubeadm's configuration, and renew the certificate (`kubeadm init phase certs apiserver`)"
    return ""


def _through_proxy(ctx: StepContext, proxy: str, direct: str, message: str) -> Finding:
    """slurmctld's environment sends the plugin's kubectl to a proxy that does not lead to the API server."""
    host, server = ctx.host, urlsplit(_server(ctx)).hostname or "the API server's address"
    text = f"the environment of slurmctld on {host} has HTTPS_PROXY={proxy}, and the plugin's kubectl asks the API server through "
    text += f"that proxy, so {SBATCH_FAILS}; {message}. Without the proxy the server answers"
    without = ",".join(filter(None, (direct, server)))
    if discover.pod_of(ctx):
        return Finding("slurmctld-proxy", text, f"set NO_PROXY={without} in the pod's template")
    fix = f"remove that setting where it comes from ({shows_unit(ctx)}), or except the server: "
    fix += drop_in(ctx, "zz-no-proxy", f"Environment=NO_PROXY={without}")
    return Finding("slurmctld-proxy", text, f"{fix}; {_restart(ctx)}")


def _restart(ctx: StepContext) -> str:
    return f"then run `systemctl restart {shlex.quote(ctx.site.slurm.service.removesuffix('.service'))}`"


def _limited(ctx: StepContext, kibibytes: str, message: str) -> Finding:
    """The limit of slurmctld's memory, which its children inherit, is too small for kubectl."""
    host, size = ctx.host, f"{int(kibibytes) // 1024} MiB"
    text = f"slurmctld on {host} runs with an address space of at most {size} (LimitAS of its unit), and so does the plugin's "
    text += f"kubectl, which cannot start with so little, so {SBATCH_FAILS}; {message}. Without that limit it works"
    if discover.pod_of(ctx):
        return Finding("slurmctld-limit", text, "remove that limit (ulimit -v) from the container's entrypoint")
    fix = f"remove LimitAS where it comes from ({shows_unit(ctx)}; DefaultLimitAS is in /etc/systemd/system.conf), or override it: "
    return Finding("slurmctld-limit", text, f"{fix}{drop_in(ctx, 'zz-no-limit', 'LimitAS=infinity')}; {_restart(ctx)}")


def _sealed(ctx: StepContext, files: str) -> Finding:
    """slurmctld's unit shows it a /tmp that nobody can write, while the host's own /tmp is as it should be."""
    host = ctx.host
    text = (
        f"slurmctld on {host} sees /tmp as read-only, though the host's own /tmp can be written: its unit makes it so "
    )
    text += f"({files or 'systemctl cat shows its files'}: ProtectSystem=strict or the like). The plugin's kubectl has its cache "
    text += f"there, so {SBATCH_FAILS}"
    fix = f"run {drop_in(ctx, 'zz-tmp', 'ReadWritePaths=/tmp')} on {host}, or remove "
    return Finding("tmp-closed", text, f"{fix}that setting; {_restart(ctx)} there")


def _undiscovered(ctx: StepContext) -> Finding:
    """The API server lets the plugin's name read none of its lists of API groups, without which kubectl finds no kind."""
    text = f"the API server does not let the plugin on {ctx.host} read which APIs it has (the ClusterRoleBinding system:discovery "
    text += f"of Kubernetes was removed or changed), so kubectl finds no Workflows and {SBATCH_FAILS}"
    name = f"{names.BINDING}-discovery"
    fix = "run `kubectl get clusterrolebinding system:discovery` on the master. If it is missing, run `kubectl create "
    fix += "clusterrolebinding system:discovery --clusterrole=system:discovery --group=system:authenticated`; if somebody removed "
    fix += f"it on purpose, give that right to the plugin alone: `kubectl create clusterrolebinding {name} "
    fix += f"--clusterrole=system:discovery --user={shlex.quote(ctx.site.access.common_name)}`"
    return Finding("discovery-refused", text, fix)


def kubectl_findings(ctx: StepContext, answer: Value) -> Iterator[Finding]:
    """The first thing that is wrong with kubectl's call: kubeconfig, connection, the server's answer, its speed."""
    host, seconds, fix = ctx.host, answer["milliseconds"] / 1000, repair_fix(ctx, "access")
    output = answer.get("said", "")
    message = f"kubectl says: {output}" if output else f"kubectl ended with exit code {answer['code']}"
    if limit := answer.get("limit"):
        yield _limited(ctx, limit, message)
    elif proxy := answer.get("proxy"):
        yield _through_proxy(ctx, proxy, answer["direct"], message)
    elif script := answer.get("script"):
        text = f"{script} on {host} is a wrapper script that comes before the real kubectl on slurmctld's PATH, and it fails, so "
        text += f"{SBATCH_FAILS}; {message}. Without that script kubectl reaches the API server"
        away = f"`mv {shlex.quote(script)} /root/`"
        fix = f"run `cat {shlex.quote(script)}` on {host} to see what it is for; correct it, or run {away}"
        yield Finding("kubectl-broken", text, fix)
    elif "undiscovered" in answer or (answer.get("status") == "403" and "system:anonymous" not in output):
        yield _undiscovered(ctx)
    elif "broken" in answer:
        kubectl = controller.state(ctx)["kubectl"]
        text = f"{kubectl} on {host} fails with every kubeconfig, so {SBATCH_FAILS}; {message}"
        proof = f"`{shlex.quote(kubectl)} version --client` must succeed"
        yield Finding("kubectl-broken", text, f"reinstall kubectl in the cluster's version there; then {proof}")
    elif "asked" not in answer and answer["code"] not in ("0", TIMED_OUT):
        text = f"kubectl cannot use the kubeconfig on {host}, so {SBATCH_FAILS}; {message}"
        yield Finding("kubeconfig-broken", text, fix)
    elif "status" not in answer:
        server = _server(ctx)
        text = f"kubectl on {host} gets no answer from {server}, so {SBATCH_FAILS}; {message}"
        kubeconfig = ctx.facts.known(KUBECONFIG).get(host)
        if kubeconfig and (through := kubeconfig.get("proxy")):
            text += f". The kubeconfig there sends it through the proxy {through} (proxy-url), which this tool has not written"
            yield Finding("api-unreachable", text, fix)
            return
        if special := _tls_fix(host, server, output):
            yield Finding("api-unreachable", text, f"{special}; then {fix}")
            return
        if others := _reach_it(ctx, server):
            text += f". {', '.join(others)} reaches that server with the same address: the cause is on {host}, or between the two"
            yield Finding("api-unreachable", text, _way_fix(host, server))
            return
        if any(server == known["server"] for known in ctx.facts.known(API_SERVER).values()):
            text += ". That is the address in the master's own kubeconfig"
            yield Finding("api-unreachable", text, _way_fix(host, server))
            return
        check = "run `kubectl get --raw /readyz` on the master. If the API server responds there, "
        check += f"correct access.server in the site file and {fix}"
        yield Finding("api-unreachable", text, check)
    elif answer["status"] != "200":
        text = (
            f"the API server rejects the kubeconfig on {host} (HTTP {answer['status']}), so {SBATCH_FAILS}; {message}"
        )
        yield Finding("kubeconfig-refused", text, fix)
    elif answer["milliseconds"] >= SLOW:
        text = f"kubectl on {host} is slow: the fastest of three calls took {seconds:.1f} s. "
        text += "Every sbatch with #DW lines waits for such a call, and other Slurm commands may time out meanwhile"
        fix = f"check the load and the disks of the master (API server, etcd), and its network to {host}"
        yield Finding("api-slow", text, fix)


CHECK = Check(_REACH.step, "controller", _look_reach, judge_reach)
