"""How the plugin reaches the API server from a controller: each obstacle has its finding, and the probe tells them apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.doctor.plugin_access import judge_reach, kubectl_findings, parse_reach
from dws_on_csm.commands.doctor.probes import judge_loads
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.access import stage as access_stage
from dws_on_csm.stages.facts import API_SERVER
from tests.unit import steps
from tests.unit.commands.doctor.context import HOST, SITE, place, told

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


def test_a_proxy_in_the_kubeconfig_is_the_cause() -> None:
    """This tool writes none; the password of one is not shown."""
    found = {key: value for key, value in REACH.items() if key != "status"} | {
        "code": "1",
        "said": "proxyconnect tcp: refused",
    }
    printed = b"slurm_user=slurm\nmode=600\nserver=https://10.0.0.1:6443\nproxy-url=http://joe:secret@10.0.0.9:3128\n"
    file = steps.parse(access_stage.STAGE, "kubeconfig", printed)
    (one,) = judge_reach(place(preflight_controller=KUBECTL, access_kubeconfig=file), found)
    assert "through the proxy http://10.0.0.9:3128" in one.text
    assert "secret" not in str(file) and one.fix == f"run `fab -H {HOST} repair access`"


def test_an_address_that_the_master_has_too_is_not_corrected() -> None:
    """A second machine with the master's address refuses the connection: nothing in the site file is wrong."""
    found = {key: value for key, value in REACH.items() if key != "status"} | {
        "code": "1",
        "said": "connection refused",
    }
    server = {"server": "https://10.0.0.1:6443"}
    here = place(preflight_controller=KUBECTL, access_kubeconfig=server)
    here.facts.found[API_SERVER.name] = {"m": server}
    (one,) = judge_reach(here, found)
    assert "access.server" not in one.fix and "`ip neigh show 10.0.0.1`" in one.fix


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


def test_a_plugin_that_does_not_load() -> None:
    """The finding has Lua's message."""
    (found,) = judge_loads(place(), {"lua": "/usr/bin/lua5.4", "said": "line 3: boom"})
    assert (found.name, "line 3: boom" in found.text) == ("plugin-not-loading", True)
    assert judge_loads(place(), {"lua": "", "said": ""}) == ()
