"""Findings of `invoke doctor`: each problem has its name, and docs/when-it-fails.md lists all names."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.doctor import judge, rules, rules_access, rules_cluster
from dws_on_csm.commands.doctor.at_work import RUNNING_SCRIPT, parse_running
from dws_on_csm.commands.doctor.command import finding_rows, merged_over_hosts, unseen_rows, why_no_archive
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen, records, with_causes
from dws_on_csm.commands.doctor.judge import HERE, clock_findings, unusable
from dws_on_csm.commands.doctor.orphans import judge_workflows
from dws_on_csm.commands.doctor.plugin_access import judge_reach, kubectl_findings, parse_reach
from dws_on_csm.commands.doctor.probes import judge_loads, stages
from dws_on_csm.commands.doctor.slurm_confs import judge_alike
from dws_on_csm.commands.workflows import namesakes
from dws_on_csm.config.load import DEFAULT, ROOT, load
from dws_on_csm.config.site import Host
from dws_on_csm.display import style
from dws_on_csm.domain import names
from dws_on_csm.domain.compatibility import TABLE
from dws_on_csm.engine import site_lock
from dws_on_csm.engine.looks import FailureReason
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import SILENT_FIX
from dws_on_csm.model.step import Check, Facts, Finding, NotYetKnown, StepContext, Value
from dws_on_csm.stages.access import stage as access_stage
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.install import procedure
from dws_on_csm.stages.slurm import slurmctld, start
from tests.unit import steps

SITE = load(DEFAULT)
MASTER, HOST = SITE.master.host.name, SITE.controllers[0].name
GROUP = names.GROUP


def place(host: str = HOST, **found: Any) -> StepContext:
    """A host and its state: `slurm_daemon={...}` is slurm.daemon."""
    return StepContext(SITE, Facts({key.replace("_", ".", 1): {host: value} for key, value in found.items()}), host)


def told(found: Iterable[Finding]) -> list[str]:
    every = list(found)
    assert all(one.text and one.fix for one in every)
    return [one.name for one in every]


# --- the kubeconfig


def certificate(name: str = "slurm-dws", days: float = 400) -> str:
    """A certificate for `name` that ends in so many days, signed by its own key, in base64."""
    from base64 import b64encode

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=900)).not_valid_after(now + timedelta(days=days, minutes=5))
    return b64encode(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


ALL_AT_ONCE = ["kubeconfig-open", "certificate-ends-soon", "certificate-foreign", "kubeconfig-namespace"]
GOOD: dict[str, Any] = {"mode": "600", "owner": "slurm", "slurm_user": "slurm", "server": "https://m:6443", "may": []}


@pytest.mark.parametrize(
    ("change", "days", "name", "expected"),
    [
        ({}, 400, "slurm-dws", []),
        ({"mode": "644"}, 400, "slurm-dws", ["kubeconfig-open"]),
        ({}, 59, "slurm-dws", ["certificate-ends-soon"]),
        ({}, 60, "slurm-dws", []),
        ({}, -1, "slurm-dws", ["certificate-expired"]),
        ({}, 400, "somebody", ["certificate-foreign"]),
        ({"namespace": "user"}, 400, "slurm-dws", ["kubeconfig-namespace"]),
        ({"key_fits": "yes"}, 400, "slurm-dws", []),
        ({"key_fits": "no"}, 400, "slurm-dws", ["certificate-key"]),
        ({"mode": "640", "namespace": "user"}, 3, "x", ALL_AT_ONCE),
    ],
)  # fmt: skip
def test_a_kubeconfig_is_judged_thing_by_thing(
    change: dict[str, str], days: float, name: str, expected: list[str]
) -> None:
    """Mode, expiry, name and settings each have a finding of their own, also where the cluster's state is unknown."""
    found = {**GOOD, "client-certificate-data": certificate(name, days), **change}
    assert told(rules_access.file(place(), found)) == expected


def test_a_kubeconfig_that_is_not_there_or_has_no_certificate() -> None:
    """Each has its finding, and nothing is guessed about the rest."""
    assert told(rules_access.file(place(), {"slurm_user": "slurm"})) == ["kubeconfig-missing"]
    assert told(rules_access.file(place(), GOOD)) == ["certificate-missing"]


def test_a_certificate_of_another_ca_is_reported_where_the_ca_is_known() -> None:
    """The cluster's present CA did not sign it."""
    from base64 import b64decode

    found = {**GOOD, "client-certificate-data": certificate()}
    other = {"ca": b64decode(certificate("kubernetes")).decode(), "server": "https://m:6443", "trusts": ""}
    seen = StepContext(SITE, Facts({"access.cluster": {MASTER: other}}), HOST)
    assert told(rules_access.file(seen, found)) == ["certificate-foreign"]
    seen = StepContext(SITE, Facts({"access.cluster": {MASTER: {**other, "trusts": other["ca"]}}}), HOST)
    assert told(rules_access.file(seen, found)) == ["certificate-foreign", "kubeconfig-ca"]


def test_a_kubeconfig_with_one_of_two_certificates_of_the_ca_is_not_said_to_fail() -> None:
    """While a CA is being renewed, its file has two certificates: kubectl still trusts the API server."""
    from base64 import b64decode, b64encode

    old, new, foreign = (b64decode(certificate(name)).decode() for name in ("kubernetes", "kubernetes", "other"))

    def texts(trusts: str) -> list[str]:
        data = b64encode(trusts.encode()).decode()
        found = {**GOOD, "client-certificate-data": certificate(), "certificate-authority-data": data}
        cluster = {"ca": old + new, "server": "https://m:6443", "trusts": old + new}
        findings = rules_access.file(StepContext(SITE, Facts({"access.cluster": {MASTER: cluster}}), HOST), found)
        return [one.text for one in findings if one.name == "kubeconfig-ca"]

    assert texts(old + new) == []
    (few,), (many,), (other,) = texts(old), texts(old + new + foreign), texts(foreign)
    assert "not all certificates of the cluster's CA: once the API server" in few
    assert "another CA besides the cluster's" in many and "kubectl does not trust the API server" in other


# --- role and binding


def rule(*verbs: str, group: str = GROUP, resource: str = "workflows") -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource, "computes"], "verbs": list(verbs)}


@pytest.mark.parametrize(
    ("rules", "lacks"),
    [
        ([rule("create", "get", "patch", "delete")], ""),
        ([rule("create", "get"), rule("patch", "delete")], ""),
        ([rule("*")], ""),
        ([rule("create", "get", "delete")], "patch"),
        ([rule("create", "get", "patch", "delete", group="argoproj.io")], "create, get, patch, delete"),
        ([rule("*", resource="storages")], "create, get, patch, delete"),
        ([], "create, get, patch, delete"),
        (None, "create, get, patch, delete"),  # so the API server gives an empty list back
    ],
)
def test_a_role_lets_the_plugin_work_or_says_what_it_lacks(rules: list[Value] | None, lacks: str) -> None:
    """The role in the cluster is judged, also where the manifests are unknown."""
    found = list(rules_access.role(place(MASTER), {"rules": rules}))
    assert [one.name for one in found] == (["role-lacks-rights"] if lacks else [])
    assert all(f"to {lacks} Workflows" in one.text for one in found)


def test_no_role_and_no_binding() -> None:
    """Each of them has a finding."""
    want = {"role": "workload-manager", "subjects": ["User slurm-dws"]}
    assert told(rules_access.role(place(MASTER), None)) == ["role-lacks-rights"]
    assert told(rules_access.binding(place(MASTER), None, want)) == ["binding-wrong"]
    other = {"role": "workload-manager", "subjects": ["User somebody"]}
    (found,) = rules_access.binding(place(MASTER), other, want)
    assert "somebody" in found.text and "slurm-dws" in found.text


# --- how the plugin fares

REACH = {
    "user": "slurm",
    "there": "yes",
    "readable": "yes",
    "code": "0",
    "asked": "yes",
    "status": "200",
    "milliseconds": 90,
    "token": [],
}
KUBECTL = {"kubectl": "/usr/bin/kubectl"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"readable": None, "code": None}, ["kubeconfig-unreadable"]),
        ({"there": None, "readable": None, "code": None}, []),
        ({"status": None, "code": "1"}, ["api-unreachable"]),
        ({"status": None, "code": "1", "asked": None}, ["kubeconfig-broken"]),
        ({"status": None, "code": "126", "asked": None, "broken": "yes"}, ["kubectl-broken"]),
        ({"status": None, "code": "124", "asked": None}, ["api-unreachable"]),
        ({"status": "401", "code": "1"}, ["kubeconfig-refused"]),
        ({"status": "403", "code": "1"}, ["discovery-refused"]),
        ({"undiscovered": "yes"}, ["discovery-refused"]),
        ({"status": None, "code": "1", "proxy": "http://p", "direct": ""}, ["slurmctld-proxy"]),
        ({"status": None, "code": "2", "asked": None, "limit": "512000"}, ["slurmctld-limit"]),
        ({"status": None, "code": "1", "asked": None, "script": "/opt/bin/kubectl"}, ["kubectl-broken"]),
        ({"milliseconds": 3100}, ["api-slow"]),
        ({"status": None, "code": "1", "milliseconds": 15000}, ["api-unreachable"]),
        ({"token": [names.KUBECONFIG, "/var/run/secrets/x"]}, ["token-beside-certificate"] * 2),
    ],
)
def test_how_the_plugin_reaches_the_api(change: dict[str, Any], expected: list[str]) -> None:
    """Readable kubeconfig, reachable server, accepted certificate, fast answer: the HTTP status decides, not kubectl's words."""
    found = {key: value for key, value in {**REACH, **change}.items() if value is not None}
    assert told(judge_reach(place(preflight_controller=KUBECTL), found)) == expected


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Unable to connect to the server: net/http: TLS handshake timeout", "ping -c 3 -M do -s 1400 10.0.0.1"),
        (
            "tls: failed to verify certificate: x509: certificate is valid for 10.0.0.2, not 10.0.0.1",
            "set access.server",
        ),
        ("dial tcp 10.0.0.1:6443: connect: no route to host", "kubectl get --raw /readyz"),
    ],
)
def test_a_connection_whose_tls_fails_has_a_fix_of_its_own(said: str, fix: str) -> None:
    """Of packets that are too large on the way, and of an address that the API server's certificate lacks."""
    found = {key: value for key, value in REACH.items() if key not in ("status",)} | {"code": "1", "said": said}
    file = {"server": "https://10.0.0.1:6443"}
    (one,) = judge_reach(place(preflight_controller=KUBECTL, access_kubeconfig=file), found)
    assert one.name == "api-unreachable" and said in one.text and fix in one.fix


def test_a_time_that_is_none_is_a_look_that_failed() -> None:
    """A host's output is parsed into numbers before it is judged: text that is no number is a failed check."""
    assert parse_reach(b"user=slurm\nmilliseconds=90\ncode=0\n")["milliseconds"] == 90
    for said in (b"milliseconds=soon\ncode=0\n", b"code=0\n"):
        with pytest.raises((ValueError, KeyError)):
            parse_reach(said)
    for said in (b"mode=rw\nowner=slurm\n", b"mode=\n"):
        with pytest.raises(ValueError, match="invalid literal"):
            steps.parse(access_stage.STAGE, "kubeconfig", said)


_ONCE_SLOW = """#!/bin/sh
echo call >>{0}
[ "$(wc -l <{0})" -gt 1 ] || sleep 2
"""


@pytest.mark.slow
def test_one_slow_call_is_no_slow_api(tmp_path: Path) -> None:
    """A slow host is asked again; the fastest call counts."""
    found = asked(tmp_path, _ONCE_SLOW.format(tmp_path / "calls"))
    assert int(found["milliseconds"]) < 2000 and found["code"] == "0"
    assert (tmp_path / "calls").read_text().count("call") > 1


@pytest.mark.parametrize(
    ("kubectl", "broken"),
    [('#!/bin/sh\necho no kubeconfig >&2\n[ "$5" = version ]\n', None), ("\x7fELF cut off", "yes")],
)
def test_a_kubectl_that_does_not_run_is_not_the_kubeconfig_s_fault(
    tmp_path: Path, kubectl: str, broken: str | None
) -> None:
    """The file is cut off, or of another machine: another kubeconfig would not help."""
    assert asked(tmp_path, kubectl).get("broken") == broken


_PROXIED = """#!/bin/sh
echo "GET https://10.0.0.9:6443/version" >&2
[ -z "$HTTPS_PROXY" ] || { echo "no answer; $NO_PROXY" >&2; exit 1; }
"""


def test_the_proxy_that_slurmctld_names_is_tried_and_left_out(tmp_path: Path) -> None:
    """The plugin's kubectl has slurmctld's environment: what works in a shell says nothing. A proxy's password goes nowhere."""
    own = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": ".local"}
    found = asked(tmp_path, _PROXIED, slurmctld=own)
    assert (found["code"], found["proxy"], found["direct"]) == ("1", "http://proxy:3128", ".local")
    assert found["said"] == "no answer; .local"
    assert asked(tmp_path, _PROXIED, slurmctld={"https_proxy": "http://joe:secret@proxy"})["code"] == "0"


_STARVED = """#!/bin/sh
[ "$(ulimit -v)" != 512000 ] || { echo 'fatal error: failed to reserve memory' >&2; echo 'runtime stack:' >&2; exit 2; }
"""


def test_the_limit_of_slurmctld_s_memory_is_tried_and_left_out(tmp_path: Path) -> None:
    """kubectl inherits it, and may need more; the reason that its runtime gives is shown, and not the end of its stack."""
    limits = "read_proc() { printf 'Max address space  %s  unlimited  bytes\\n'; }\n"
    found = asked(tmp_path, _STARVED, slurmctld={}, functions=limits % 524288000)
    assert (found["code"], found["limit"]) == ("2", "512000")
    assert found["said"] == "fatal error: failed to reserve memory"
    assert "limit" not in asked(tmp_path, _STARVED, slurmctld={}, functions=limits % "unlimited")


def test_a_script_before_kubectl_is_told_from_kubectl(tmp_path: Path) -> None:
    """What calls kubectl with options of its own may fail where kubectl itself works."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/kubectl").write_text("#!/bin/sh\n")
    (tmp_path / "real/kubectl").chmod(0o755)
    wrapper = "#!/bin/sh\necho 'no context admin' >&2; exit 1\n"
    path = f"{tmp_path}:{tmp_path}/real:{os.environ['PATH']}"
    found = asked(tmp_path, wrapper, slurmctld={"PATH": path})
    assert (found["code"], found["script"]) == ("1", str(tmp_path / "kubectl"))


def test_a_cluster_that_hides_its_apis_is_told_from_a_refused_kubeconfig(tmp_path: Path) -> None:
    """Without discovery kubectl finds no kind, though the server accepts the certificate."""
    hidden = """#!/bin/sh
case $* in *" /apis") code=403 ;; *) code=200 ;; esac
echo "I0101 12:00:00.0 1 x.go:1] \\"Response\\" verb=\\"GET\\" url=\\"https://x/\\" status=\\"$code OK\\"" >&2
[ $code = 200 ]
"""
    found = asked(tmp_path, hidden)
    assert (found["code"], found["status"], found["undiscovered"]) == ("0", "200", "yes")


def asked(
    folder: Path, kubectl: str, slow: str = "2000", slurmctld: Mapping[str, str] | None = None, functions: str = ""
) -> dict[str, str]:
    """What the probe says on a host with this kubectl, without slurmctld: that of a lab would bring its own PATH. `slurmctld`: the
    environment of one, which this test's shell plays. `functions`: shell that takes the place of the script's own."""
    for name, text in {"kubectl": kubectl, "pgrep": "#!/bin/sh\nexit 1\n", "kubeconfig": ""}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    settings = {
        "user": "root",
        "file": str(folder / "kubeconfig"),
        "folder": "/nowhere",
        "unit": "nosuch",
        "slow": slow,
    }
    script = render.script(
        "lib/as.sh", "lib/slurmctld.sh", "lib/temporary.sh", "controller/doctor_reach.sh", **settings
    )
    if slurmctld is not None:
        script = script.replace("fact user", f"main_pid() {{ echo $$; }}\n{functions}fact user", 1)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", **(slurmctld or {})}
    done = subprocess.run(["sh", "-s"], input=script, env=own, capture_output=True, text=True, timeout=60, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_a_unit_that_makes_tmp_read_only_for_slurmctld() -> None:
    """In a shell /tmp can be written: the finding names the file of the unit, and the fix lets slurmctld write there."""
    seen = place(preflight_controller={"kubectl": "/usr/bin/kubectl"})
    drop_in = "/etc/systemd/system/slurmctld.service.d/hardening.conf"
    (found,) = judge_reach(seen, {**REACH, "sealed": drop_in})
    assert (found.name, drop_in in found.text) == ("tmp-closed", True)
    assert r"printf '[Service]\nReadWritePaths=/tmp\n' >" in found.fix and "`systemctl restart slurmctld`" in found.fix


def test_without_kubectl_nothing_is_reported_of_the_api() -> None:
    """A missing kubectl has a finding of its own, and says nothing about the server."""
    found = {**REACH, "code": "127", "status": None}
    seen = place(preflight_controller={"kubectl": ""})
    assert told(judge_reach(seen, {k: v for k, v in found.items() if v is not None})) == []


def test_what_the_server_is_called_is_in_the_finding() -> None:
    """The finding has the address that does not respond, and kubectl's message."""
    seen = place(access_kubeconfig={"server": "https://10.0.0.9:6443"})
    (found,) = kubectl_findings(seen, {"code": "1", "asked": "yes", "milliseconds": 20, "said": "refused"})
    assert "https://10.0.0.9:6443" in found.text and "refused" in found.text


def test_a_server_that_another_controller_reaches_is_not_the_cause() -> None:
    """The address is right then, and no site file has to be corrected."""
    other, server = "slurmctl2", "https://10.0.0.9:6443"
    known: dict[str, Any] = {
        "access.kubeconfig": {host: {"server": server} for host in (HOST, other)},
        "doctor.reach": {other: REACH},
    }
    (found,) = kubectl_findings(
        StepContext(SITE, Facts(known), HOST), {"code": "1", "asked": "yes", "milliseconds": 20}
    )
    assert (
        f"{other} reaches that server" in found.text
        and f"curl -kv --max-time 10 {server}/version` on {HOST}" in found.fix
    )
    assert "access.server" not in found.fix


def test_a_host_that_starts_no_script_is_a_finding() -> None:
    """ssh connects, and the login's shell ends: nothing else is found on that host then. One check that failed, an API server that
    does not respond and a sudo that refuses are other things."""
    shell, silent = (
        FailureReason("c1: the login ended", "change its shell"),
        FailureReason("no answer", SILENT_FIX, cluster=True),
    )
    every = ("a", "b", "c", "d")
    failed = {(check, "c1"): shell for check in every} | {(check, "m"): silent for check in every}
    failed |= {("a", "c2"): shell, **{(check, "c3"): FailureReason("x ended with exit code 1") for check in every}}
    failed |= {(check, "c4"): shell for check in every}
    (found,) = unusable(failed, ["c4"])
    assert (found.host, found.finding.name) == ("c1", "host-unreachable")
    assert found.finding.text == "nothing could be checked on c1: the login ended"


@pytest.mark.parametrize(
    ("failed", "name", "fix"),
    [
        (FailureReason("no answer", SILENT_FIX, cluster=True), "cluster-unreachable", SILENT_FIX),
        (
            FailureReason("nodes is forbidden"),
            "master-kubeconfig-refused",
            "create clusterrolebinding kubeadm:cluster-admins",
        ),
    ],
)
def test_an_api_server_that_refuses_the_administrator_responds(failed: FailureReason, name: str, fix: str) -> None:
    """Nothing has to be started then: the kubeconfig lacks rights."""
    run: Any = SimpleNamespace(board=SimpleNamespace(failed={("doctor.cluster", MASTER): failed}), site=SITE)
    (found,) = judge.of_failure(run, "doctor.cluster", MASTER, failed.text)
    assert (found.host, found.finding.name, failed.text in found.finding.text) == (MASTER, name, True)
    assert fix in found.finding.fix
    assert list(judge.of_failure(run, "deploy.open", MASTER, failed.text)) == []


def test_a_plugin_that_does_not_load() -> None:
    """The finding has Lua's message."""
    (found,) = judge_loads(place(), {"lua": "/usr/bin/lua5.4", "said": "line 3: boom"})
    assert (found.name, "line 3: boom" in found.text) == ("plugin-not-loading", True)
    assert judge_loads(place(), {"lua": "", "said": ""}) == ()


# --- orphans

NOW = 1_000_000.0


def workflow(job: str, age: float) -> dict[str, Any]:
    return {
        "namespace": "default", "name": f"bb{job}", "id": job, "job": job, "uid": 1, "desired": "Proposal", "state": "Proposal",
        "ready": True, "status": "Completed", "created": NOW - age, "deleting": False, "finalizers": [],
        "since": NOW,
        "drivers": [],
    }  # fmt: skip


def test_only_workflows_without_a_job_are_orphans() -> None:
    """A Workflow with a job is no orphan, whatever the clocks say of its age."""
    job = {
        "id": "1",
        "user": "joe",
        "uid": None,
        "state": "RUNNING",
        "submitted": NOW,
        "ended": 0.0,
        "over": False,
        "burst_buffer": True,
    }
    here: dict[str, Any] = {"namespace": workflow("1", 0)["namespace"]}
    seen = place(doctor_jobs={"answers": True, "now": NOW, "jobs": {"1": job}, **here})
    found = judge_workflows(seen, [workflow("1", 500), workflow("2", 500), workflow("1", -500)])
    assert [(one.name, "bb2" in one.text, "bb2" in one.fix) for one in found] == [("orphan", True, True)]


def test_without_slurms_answer_no_workflow_is_an_orphan() -> None:
    """Where squeue responds on no controller, the jobs are unknown."""
    silent = place(doctor_jobs={"answers": False, "now": 0.0, "jobs": {}})
    with pytest.raises(NotYetKnown):
        judge_workflows(silent, [workflow("2", 500)])
    assert judge_workflows(silent, []) == []


def test_other_crds_called_workflows_are_named() -> None:
    """Argo's CRD has the same plural; a name that only begins the same has not."""
    crds = ["workflows.argoproj.io", names.WORKFLOWS, "workflowtemplates.argoproj.io", "jobs.batch"]
    assert namesakes(crds) == ["workflows.argoproj.io"]


# --- steps that are not as wanted


def test_burst_buffer_conf_has_its_own_name_and_effect() -> None:
    """The finding says that jobs run without Workflows."""
    want = {"text": "Directive=DW\n", "mode": "644", "owner": "root:root"}
    (found,) = rules.RULES["plugin.conf"](place(), None, want)
    assert found.name == "burst-buffer-conf-missing" and "without a Workflow" in found.text
    have = {"text": "Directive=BB\n", "mode": "600", "owner": "root:root"}
    assert told(rules.RULES["plugin.conf"](place(), have, want)) == [
        "burst-buffer-conf-edited",
        "burst-buffer-conf-mode",
    ]


@pytest.mark.parametrize(
    ("main", "changed", "expected"),
    [
        ("9", {"slurm.conf": 6.0, "burst_buffer.conf": 1.0}, ["slurmctld-stale"]),
        ("9", {"slurm.conf": 1.0, "burst_buffer.conf": 6.0}, ["slurmctld-stale"]),
        ("9", {"slurm.conf": 1.0, "burst_buffer.conf": 1.0}, []),
        ("9", {"slurm.conf": 1.0}, []),
        ("", {"slurm.conf": 6.0, "burst_buffer.conf": 6.0}, ["slurmctld-not-running"]),
    ],
)
def test_a_slurmctld_that_is_older_than_its_files(main: str, changed: dict[str, float], expected: list[str]) -> None:
    """A missing file is a finding about the file; a changed one is a finding about slurmctld."""
    running = slurmctld.parse(b"started=5.0\nloaded=yes\nping=here UP\ntype=burst_buffer/lua\n")
    running |= {"main": main, "changed": {f"/etc/slurm/{name}": at for name, at in changed.items()}}
    have = {"answers": slurmctld.answers(running), "not read": []}
    assert told(rules.RULES["slurm.daemon"](place(slurm_daemon=running), have, None)) == expected


SILENT = {"answers": False, "not read": []}
PARSES = start.parse(b"auth=auth/munge\nas=slurm\n")


@pytest.mark.parametrize(
    ("main", "obstacle", "name", "restart"),
    [
        ("", {}, "slurmctld-not-running", "repair slurm"),
        ("", {"proof": "no socket"}, "slurmctld-not-running", "first fix munge-down"),
        ("", {"state_problem": "missing"}, "slurmctld-not-running", "first fix state-folder-unusable"),
        ("9", {"unparsed": ["error"]}, "slurmctld-not-answering", "first fix slurm-conf-unparsable"),
        ("9", {"proof": "no socket"}, "slurmctld-not-answering", "first fix munge-down"),
        ("9", {}, "slurmctld-not-answering", "wait a minute"),
    ],
)
def test_why_slurmctld_does_not_respond(main: str, obstacle: dict[str, Any], name: str, restart: str) -> None:
    """Not running, unable to be asked, busy: a restart is named only where it is the fix, and after what keeps it from working."""
    backup = {**slurmctld.parse(b"ping=there DOWN\nping=here UP\n"), "main": "7"}
    facts = {
        slurmctld.FACT.name: {HOST: {**slurmctld.parse(b""), "main": main}, "other": backup},
        start.START.name: {HOST: {**PARSES, **obstacle}},
    }
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert (found.name, found.fix.startswith(restart) or restart in found.fix) == (name, True), found
    assert ("repair slurm" in found.fix) is not (main != "" and bool(obstacle))
    assert ("slurmctld on other responds" in found.text) is not (main != "" and bool(obstacle))


@pytest.mark.parametrize(
    ("ended", "limits"),
    [
        ("Result=oom-kill MemoryMax=67108864", ["MemoryMax"]),
        ("LimitAS=20971520 MemoryMax=67108864 Result=exit-code", ["LimitAS", "MemoryMax"]),
        ("Result=exit-code", []),
        ("", []),
    ],
)
def test_the_limits_of_a_slurmctld_that_has_ended(ended: str, limits: list[str]) -> None:
    """What systemd says of its end is shown; where its unit limits its memory, the commands that lift that are, too."""
    facts = {slurmctld.FACT.name: {HOST: slurmctld.parse(f"main=\nended={ended}\n".encode())}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert (f"(systemd says {ended})" in found.text) == bool(ended)
    lifted = "".join(f"{limit}=infinity\\n" for limit in limits)
    assert (f"printf '[Service]\\n{lifted}' >/etc/systemd/system/slurmctld.service.d/" in found.fix) == bool(limits)


def test_a_slurmctld_that_somebody_started_by_hand() -> None:
    """It runs, and its unit does not know it: the fix ends it first, as the unit cannot start another one beside it."""
    facts = {slurmctld.FACT.name: {HOST: slurmctld.parse(b"main=\noutside=77\n")}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert found.name == "slurmctld-not-running" and "process 77" in found.text
    assert found.fix.startswith("run `kill 77; ") and "systemctl start slurmctld`" in found.fix


@pytest.mark.parametrize("main", ["", "9"])
def test_what_a_silent_slurmctld_said_last_is_in_the_finding(main: str) -> None:
    """Its own errors name causes that no check of ours knows: a script that is missing, a name that does not resolve."""
    said = b"said=[2026] fatal: no prep plugin\nsaid=[2026] error: getaddrinfo() failed\n"
    daemon = {**slurmctld.parse(said), "main": main}
    facts: dict[str, Any] = {slurmctld.FACT.name: {HOST: daemon}, start.START.name: {HOST: PARSES}}
    (found,) = rules.RULES["slurm.daemon"](StepContext(SITE, Facts(facts), HOST), SILENT, None)
    assert "Its last errors: [2026] fatal: no prep plugin / [2026] error: getaddrinfo() failed" in found.text


@pytest.mark.parametrize("up", [True, False])
def test_the_last_errors_of_slurmctlds_log_are_read_where_it_does_not_respond(tmp_path: Path, up: bool) -> None:
    """The last five, of errors alone; nothing where it responds, whether or not another one does."""
    log = tmp_path / "slurmctld.log"
    lines = [
        "error: old",
        "error: zero",
        "error: and more",
        "debug: one",
        "error: two",
        "fatal: three",
        "error: four",
        "info: five",
    ]
    last = [line for line in lines[1:] if line.startswith(("error", "fatal"))]
    log.write_text("".join(f"[2026-12-01T04:00:00.000] {line}\n" for line in lines))
    library = render.script("lib/as.sh", "lib/slurmctld.sh", folder=str(tmp_path), unit="none", state=str(tmp_path))
    played = (
        f"named_pings() {{ echo $(uname -n) {'UP' if up else 'DOWN'}; echo other UP; }}\nlog_file() {{ echo {log}; }}\n"
    )
    played += 'systemd() { false; }\nmain_pid() { :; }\nslurm() { "$@"; }\n'
    script = library + played + render.read("controller/daemon.sh")
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=60, check=False)
    said = slurmctld.parse(done.stdout.encode())["said"]
    assert [line.partition("] ")[2] for line in said] == ([] if up else last), done


@pytest.mark.parametrize(
    ("pings", "type_", "stale"),
    [
        ("ping=there DOWN\nping=here UP\n", "", False),  # it has not taken over yet
        ("ping=there DOWN\nping=here UP\n", "type=(null)\n", True),
        ("ping=here UP\nping=there UP\n", "", True),
        ("ping=there UP\nping=here UP\n", "type=(null)\n", False),
    ],
)
def test_a_backup_is_not_old_because_its_primary_is_ill(pings: str, type_: str, stale: bool) -> None:
    """Only a slurmctld in charge says what burst buffer it has; one that stands by loads it when it takes over."""
    daemon = slurmctld.parse(f"main=9\nstarted=5.0\nchanged=1.0 /etc/slurm/burst_buffer.conf\n{pings}{type_}".encode())
    assert bool(slurmctld.restart_reasons(SITE, daemon)) is stale


TIMES = ["2026-01-01 10:00:00", "2026-01-02 10:00:00"]


@pytest.mark.parametrize(
    ("text", "added", "words", "source"),
    [
        ("ClusterName=a\n", [], "", False),
        ("ClusterName=a\n", TIMES[:1], "", False),
        (
            "ClusterName=a\n",
            TIMES,
            "added that line 2 times, last on 2026-01-02, .* as configuration management does",
            True,
        ),
        (
            "# Ansible managed\n",
            TIMES[:1],
            "added that line on 2026-01-01, .* a comment there says 'Ansible managed'",
            True,
        ),
        ("# Ansible managed\n", [], "", False),
    ],
)
def test_a_line_that_something_removes_again(text: str, added: list[str], words: str, source: bool) -> None:
    """By the second time, or by the file's own comment, the fix is to add the line where slurm.conf comes from."""
    (finding,) = rules.RULES["slurm.conf"](place(slurm_daemon={"added": added}), text, text + "BurstBufferType=x\n")
    assert finding.name == "burst-buffer-off" and re.search(words or "without their storage$", finding.text)
    assert ("add the line `BurstBufferType=burst_buffer/lua` to what slurm.conf" in finding.fix) == source
    assert finding.fix.endswith(f"`fab -H {HOST} repair slurm`")


@pytest.mark.parametrize(("line", "expected"), [("", []), ("BurstBufferType=burst_buffer/lua\n", ["slurmctld-stale"])])
def test_a_slurmctld_that_has_read_a_slurm_conf_without_the_burst_buffer(line: str, expected: list[str]) -> None:
    """There is a finding only where slurm.conf sets what slurmctld does not have."""
    running = slurmctld.parse(
        b"main=9\nstarted=5.0\nchanged=1.0 /etc/slurm/burst_buffer.conf\nping=here UP\ntype=(null)\n"
    )
    conf = {"id": "1", "text": f"ClusterName=x\n{line}"}
    seen = place(slurm_daemon=running, slurm_conf=conf, preflight_controller={"files": {}})
    assert [reason.code for reason in slurmctld.restart_reasons(SITE, running)] == ["other-type"]
    assert told(rules.RULES["slurm.daemon"](seen, {"answers": True, "not read": []}, None)) == expected


INSTALLED = {"tag": SITE.versions.dws, "unfinished": "", "namespace": True, "traces": ["Deployment x"], "crds": {}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"tag": f"{SITE.versions.dws}-dirty"}, ["dirty-tag"]),
        ({"tag": "0.0.1"}, ["other-version"]),
        ({"tag": "", "traces": []}, ["dws-not-installed"]),
        ({"unfinished": "0.0.19"}, ["undeploy-unfinished"]),
        ({"crds": {"workflows": {"deleting": True}}}, ["crds-stuck"]),
    ],
)
def test_the_state_of_dws(change: dict[str, Any], expected: list[str]) -> None:
    """Not installed, another version, the tag of a changed clone, an interrupted undeploy, CRDs whose deletion is stuck."""
    assert told(rules_cluster.in_cluster(place(MASTER), {**INSTALLED, **change})) == expected


@pytest.mark.parametrize(("at_work", "expected"), [("", ["dws-closed"]), ("a command of run x", []), ("run x", [])])
def test_dws_that_was_left_closed_is_reported(at_work: str, expected: list[str]) -> None:
    """While a run, or a script that a run left, is running, DWS may be closed."""
    seen = place(MASTER, **{"doctor_at-work": at_work})
    assert told(rules.RULES["deploy.open"](seen, "closed", "open")) == expected


def test_a_run_at_work_on_the_master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run whose lock has not expired, by the lock's own scripts, and a script that holds `busy`; with the real sh and flock."""
    script = RUNNING_SCRIPT.replace(STATE, str(tmp_path))

    def seen() -> str:
        return parse_running(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)

    assert seen() == ""
    who = {"run": "run-2", "over": "", "who": "joe@admin1", "pid": "1", "process": ""}
    monkeypatch.setattr(site_lock, "STATE", str(tmp_path))
    taken = site_lock.script("master/lock_take.sh", **who)
    named = subprocess.run(["sh", "-c", taken], capture_output=True, check=True).stdout.decode().split()[2]
    holder = tmp_path / "lock/holder"
    _, _, run, _, counts = holder.read_text().splitlines()
    boot, until = counts.split()
    assert seen() == run == named
    elsewhere = "c0ffee00-0000-4000-8000-000000000001"
    up = int(until) - site_lock.LEASE_SECONDS
    for now, count, found in (
        ("1", f"{boot} {until}", run),  # the master's clock was set: what it says counts for nothing
        ("9999999999", f"{boot} {up}", ""),  # ended
        ("9999999999", f"{elsewhere} 9999", run if up < site_lock.LEASE_SECONDS else ""),  # of before this boot
        ("1", "torn", run),  # nobody knows when it ends: the next run waits for it
    ):
        holder.write_text(f"joe@admin1\n1\n{run}\n{now}\n{count}\n")
        assert seen() == found, (now, count)
    holder.write_text("")
    assert seen() == ""
    (tmp_path / "lock/holder").unlink()
    with (tmp_path / "busy").open("w") as file:
        file.write("run-1")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_SH)
        assert seen() == "a command of run run-1"
    assert seen() == ""


@pytest.mark.parametrize("makes", [False, True])
def test_a_missing_namespace_is_reported(makes: bool) -> None:
    """Also where the next install may create it: until then every #DW sbatch fails."""
    site = replace(SITE, access=replace(SITE.access, create_namespace=makes))
    by_name = {stage.name: stage for stage in stages(site)}
    seen, found = replace(place(MASTER), site=site), {"state": "missing", "workflows": {}}
    (check,) = (item for item in by_name["preflight"].steps if item.name == "namespace")
    assert isinstance(check, Check)
    every = list(check.judge(seen, found))
    if "namespace" in by_name:
        (step,) = by_name["namespace"].steps
        every += rules.RULES[f"namespace.{step.name}"](seen, "missing", "there")
    assert told(every) == ["namespace-missing"]


def test_without_dws_its_parts_are_not_reported_separately() -> None:
    """A DWS that is not installed is one finding, not four."""
    seen = place(MASTER, preflight_installed={**INSTALLED, "tag": "", "traces": []})
    have = {"missing": ["a"], "not as rendered": ["b"], "webhook": "no", "because": ""}
    for step in ("deploy.applied", "deploy.available", "deploy.webhook"):
        assert told(rules.RULES[step](seen, have, {})) == []


def test_controllers_with_different_files() -> None:
    """Each file that means something else than the first controller's has a finding, with its lines, which slurmctld has loaded
    which, and the command that copies it; BurstBufferType and comments do not count."""
    conf, nodes = "/etc/slurm/slurm.conf", "/etc/slurm/nodes.conf"
    one = {"files": {conf: "A=1\n# one\n", nodes: "N=1\n"}}
    two = {"files": {conf: "A=1 # two\nBurstBufferType=burst_buffer/lua\n", nodes: "N=2\n"}}
    runs = {**slurmctld.parse(b""), "main": "7", "started": 9.0}
    daemons = {HOST: {**runs, "changed": {nodes: 5.0}}, "other": {**runs, "changed": {nodes: 20.0}}}
    controllers = (Host(HOST, "controller", "root", False), Host("other", "controller", "adm", False))
    site = replace(SITE, controllers=controllers)
    seen = StepContext(site, Facts({CONTROLLER.name: {HOST: one, "other": two}, slurmctld.FACT.name: daemons}), "other")
    (finding,) = judge_alike(seen)
    assert finding.text.startswith(f"{nodes} on other differs from that on {HOST} (- other, + {HOST}): - N=2; + N=1. ")
    assert f"slurmctld on {HOST} has loaded its file; slurmctld on other runs with an earlier text" in finding.text
    assert (
        f"`scp -3 root@{HOST}:{nodes} adm@other:{nodes}` to keep {HOST}'s, or `scp -3 adm@other:{nodes} root@{HOST}:{nodes}`"
        in finding.fix
    )
    assert "repair slurm" in finding.fix
    assert told(judge_alike(StepContext(site, seen.facts, HOST))) == []


def test_a_step_without_a_rule_is_reported() -> None:
    """A step that is added one day is not forgotten."""
    (found,) = rules.other("new.step")(place(), {"a": 1}, {"a": 2})
    assert found.name == "not-as-wanted" and "new.step" in found.text


# --- clocks


@pytest.mark.parametrize(
    ("ahead", "wrong"),
    [
        ({"a": 0.1, "b": -0.2, "c": 29.0}, []),
        ({"a": 0.1, "b": -0.2, "c": 90.0}, ["c"]),
        ({"a": 100.1, "b": 99.8, "c": 100.0}, [HERE]),
        ({"a": 100.1, "b": 99.8, "c": 0.0}, [HERE, "c"]),
        ({}, []),
    ],
)
def test_the_clock_that_is_wrong_is_named(ahead: dict[str, float], wrong: list[str]) -> None:
    """The clock that differs from most others; where all differ from this machine's, this machine's."""
    assert [one.host for one in clock_findings(ahead)] == wrong


# --- for people


def test_the_same_finding_on_many_hosts_is_reported_once() -> None:
    """A thousand nodes with the same finding are one paragraph; a node with another one has its own."""
    some = [
        HostFinding(f"nid{n}", Finding("slurm-conf-differs", f"slurm.conf on nid{n} differs: X=1", "fix it"))
        for n in (1, 2, 3)
    ]
    other = HostFinding("nid4", Finding("slurm-conf-differs", "slurm.conf on nid4 differs: Y=1", "fix it"))
    assert [(one.host, one.finding.text) for one in merged_over_hosts((*some, other))] == [
        ("nid[1-3]", "slurm.conf on each of them differs: X=1"),
        ("nid4", "slurm.conf on nid4 differs: Y=1"),
    ]


def test_a_fix_for_several_hosts_can_be_pasted(tmp_path: Path) -> None:
    """The command names every host: a shell runs it once for each, and no placeholder is left."""
    fix = "run `echo fab -H {0} repair slurm >>ran` on {0}; `true` says why"
    some = [HostFinding(host, Finding("slurmctld-stale", f"on {host}", fix.format(host))) for host in ("c1", "c2")]
    (merged,) = merged_over_hosts(some)
    assert "HOST" not in merged.finding.fix and merged.finding.fix.endswith(" on each of them; `true` says why")
    subprocess.run(["sh", "-euc", merged.finding.fix.split("`")[1]], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "ran").read_text() == "fab -H c1 repair slurm\nfab -H c2 repair slurm\n"


def test_hosts_stay_in_the_order_of_the_site_file() -> None:
    """The master's findings come before the controllers'; those of several hosts come after the first host's own."""
    pairs = [(MASTER, "a"), (MASTER, "b"), ("c1", "same"), ("c1", "own"), ("c2", "same")]
    told = merged_over_hosts(tuple(HostFinding(host, Finding(name, name, "fix it")) for host, name in pairs))
    assert [(one.host, one.finding.name) for one in told] == [
        *((MASTER, "a"), (MASTER, "b"), ("c1", "own"), ("c[1-2]", "same"))
    ]


def shown(verbose: bool, *findings: tuple[str, str]) -> tuple[list[str], list[dict[str, object]]]:
    """What `invoke doctor` prints of these findings (host, name): its lines, and its JSON."""
    every = with_causes([HostFinding(host, Finding(name, f"{name} text", f"{name} fix")) for host, name in findings])
    diagnosis = Diagnosis(findings=every, accepted=(), unseen=(), notes=(), checks=9)
    reading: Any = SimpleNamespace(sessions=SimpleNamespace(open=list), run=SimpleNamespace(site=load(DEFAULT)))
    return [style.text(row) for row in finding_rows(reading, diagnosis, verbose)], list(
        records(diagnosis, int(bool(diagnosis.findings)))
    )


@pytest.mark.parametrize(("findings", "unseen", "code"), [(0, 0, 0), (0, 1, 5), (1, 0, 1), (1, 1, 1)])
def test_a_check_that_could_not_be_made_is_no_all_clear(findings: int, unseen: int, code: int) -> None:
    """It may hide a finding: a timer that goes by the exit code alone has to learn of it. Findings outweigh it."""
    found = with_causes([HostFinding("c1", Finding("a", "a text", "a fix"))] * findings)
    refused = (Unseen("c1", "a.one", "the look was refused"),) * unseen
    assert Diagnosis(findings=found, accepted=(), unseen=refused, notes=(), checks=9).exit_code == code


def test_a_consequence_is_shown_below_its_cause() -> None:
    """By its name in one line, on whichever host it is; the summary counts causes, and says how many findings follow from them."""
    seen = ((MASTER, "cluster-unreachable"), ("c1", "api-unreachable"), ("c1", "disk-full"), ("c2", "api-unreachable"))
    lines, json = shown(False, *seen)
    assert lines[4] == "      follows from this: 2 findings: api-unreachable (c[1-2])"
    assert [line for line in lines if line.startswith("  ✗ ")] == ["  ✗ cluster-unreachable", "  ✗ disk-full"]
    assert lines[-1].startswith("✗ 2 findings; 2 more follow from them (`invoke doctor --verbose` shows them)")
    assert [record.get("follows_from") for record in json] == [
        *(None, "cluster-unreachable", None, "cluster-unreachable", None)
    ]
    assert (json[-1]["findings"], json[-1]["following"]) == (2, 2)


def test_consequences_have_their_texts_with_verbose() -> None:
    """Text and fix of each, still below its cause."""
    lines, _ = shown(True, (MASTER, "pods-not-ready"), (MASTER, "webhook-not-answering"))
    assert lines[4:6] == [
        "      follows from this: webhook-not-answering: webhook-not-answering text",
        "          fix  webhook-not-answering fix",
    ]


def test_a_reason_for_several_missing_checks_is_reported_once() -> None:
    """An API server that is down makes ten checks impossible, and is one line for each host."""
    unseen = tuple(Unseen(MASTER, step, f"the look at {step} was refused") for step in ("a.one", "a.two"))
    (row, _) = unseen_rows((*unseen,))
    assert row[1][0] == f"{MASTER}: not checked: a.one, a.two: the look at it was refused"


def test_an_archive_that_can_not_be_written_is_known_before(tmp_path: Path) -> None:
    """An existing file, or a missing folder, is reported before any host is checked."""
    (tmp_path / "there.tar.gz").touch()
    assert "already exists" in why_no_archive(tmp_path / "there.tar.gz")
    assert "not a folder" in why_no_archive(tmp_path / "nowhere/support.tar.gz")
    assert why_no_archive(tmp_path / "support.tar.gz") == ""


def test_the_page_has_every_name() -> None:
    """docs/when-it-fails.md explains every finding of the doctor."""
    files = [*ROOT.glob("dws_on_csm/commands/doctor/*.py")]
    files += [
        ROOT / f"dws_on_csm/stages/{name}.py"
        for name in ("slurm/controller", "dws/manifests", "access/rbac", "slurm/computes", "verify")
    ]
    known = {
        call.args[0].value
        for file in files
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "Finding"
        and isinstance(call.args[0], ast.Constant)
    }
    page = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs/when-it-fails.md").read_text()))
    assert len(known) > 40
    assert known - page - {row.name for row in TABLE} == set()


def test_the_doctor_looks_at_everything_that_an_install_looks_at() -> None:
    """It has all stages of this site's install, except for those of an upgrade: with its namespace, and what each stage needs."""
    for create in (False, True):
        site = replace(SITE, access=replace(SITE.access, create_namespace=create))
        seen = {stage.name: stage.needs for stage in stages(site)}
        wanted = {stage.name: stage.needs for stage in procedure(site) if stage.name != "replace"}
        assert seen == wanted | {"doctor": ()} and ("namespace" in seen) is create
