"""Containers of DWS that end again and again: what they said before is in the finding."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

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


def test_last_words_are_shown_without_secrets() -> None:
    """A program may print its whole configuration before it ends; so may slurmctld."""
    words = "login failed: password=correct-horse-staple"
    (shown,) = crashes.parse(f"words=manager: {words}\n".encode())
    (said,) = slurmctld.parse(f"said=error: {words}\n".encode()).get("said", [])
    for text in (shown, said):
        assert "correct-horse-staple" not in text and "login failed" in text
