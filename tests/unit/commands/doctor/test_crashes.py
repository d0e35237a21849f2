"""Containers of DWS that end again and again: what they said before is in the finding."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.commands.doctor import crashes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Facts, ShellLook, StepContext
from dws_on_csm.stages.slurm import slurmctld

SITE = load(DEFAULT)
MASTER = SITE.master.host.name
KUBECTL = """#!/bin/sh
case "$*" in
*"get pods"*) printf 'p1 manager\np2 webhook\np3 webhook\n' ;;
*"logs p1"*) printf 'I started\nopen /var/run/secrets/token: no such file\n\n' ;;
*) echo 'no certificate' ;;
esac
"""


def test_the_last_words_of_each_container_are_read_once(tmp_path: Path) -> None:
    """Two lines of each; the pods of one Deployment say the same."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    look = crashes.CHECK.look(StepContext(SITE, Facts({}), MASTER))
    assert isinstance(look, ShellLook)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", look.body], env=environment, capture_output=True, timeout=60, check=True)
    words = ["manager: I started open /var/run/secrets/token: no such file", "webhook: no certificate"]
    assert crashes.parse(done.stdout) == words
    said = crashes.last_words(StepContext(SITE, Facts({"doctor.crashes": {MASTER: words}}), MASTER))
    assert said == f". Before it ended, {words[0]} / {words[1]}"
    assert crashes.last_words(StepContext(SITE, Facts({}), MASTER)) == ""


GO = """2026-12-01T15:33:00Z\tINFO\tsetup\tstarting
2026-12-01T15:33:00Z\tERROR\tsetup\tthe manager ends\t{"error": "no configuration has been provided"}
main.run
\tlab/dws/main.go:66
runtime.main
\truntime/proc.go:290
"""
PANIC = """I1201 15:16:29.093885       1 main.go:1] begins
panic: runtime error: index out of range

goroutine 1 [running]:
main.main()
\t/tmp/main.go:8 +0x1d
exit status 2
"""
KLOG = """I1201 15:16:29.093885       1 flags.go:64] FLAG: --vmodule=""
E1201 15:16:29.093940       1 run.go:74] "command failed" err="failed to load kubeconfig"
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (GO, 'ERROR setup the manager ends {"error": "no configuration has been provided"}'),
        (PANIC, "panic: runtime error: index out of range"),
        (KLOG, 'run.go:74] "command failed" err="failed to load kubeconfig"'),
        ('{"level":"error","msg":"no"}\nbye\n', '{"level":"error","msg":"no"}'),
    ],
)
def test_a_program_in_go_ends_with_its_error_not_its_stack(tmp_path: Path, log: str, words: str) -> None:
    """The stack trace is after the line that says why; two programs that say the same are told together."""
    (tmp_path / "log").write_text(log)
    kubectl = f"#!/bin/sh\ncase \"$*\" in *'get pods'*) printf 'p1 manager\\np2 webhook\\n' ;; *) cat {tmp_path}/log ;; esac\n"
    (tmp_path / "kubectl").write_text(kubectl)
    (tmp_path / "kubectl").chmod(0o755)
    look = crashes.CHECK.look(StepContext(SITE, Facts({}), MASTER))
    assert isinstance(look, ShellLook)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", look.body], env=environment, capture_output=True, timeout=60, check=True)
    assert crashes.parse(done.stdout) == [f"manager, webhook: {words}"]


def test_last_words_are_shown_without_secrets() -> None:
    """A program may print its whole configuration before it ends; so may slurmctld."""
    words = "login failed: password=correct-horse-staple"
    (shown,) = crashes.parse(f"words=manager: {words}\n".encode())
    (said,) = slurmctld.parse(f"said=error: {words}\n".encode()).get("said", [])
    for text in (shown, said):
        assert "correct-horse-staple" not in text and "login failed" in text
