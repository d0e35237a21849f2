"""A clone on the master that git itself cannot read is a difference, and is cloned again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.step import ShellLook
from dws_on_csm.stages.dws import workarea
from tests.unit import steps
from tests.unit.commands.doctor.context import MASTER, place

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


@pytest.mark.parametrize("damaged", [True, False])
def test_a_clone_that_git_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool) -> None:
    """The look answers with git's words, and the change clones: it does not fetch into what is damaged."""
    clone = tmp_path / "clone"
    clone.mkdir()
    tag = f"v{place().site.versions.dws}"
    (clone / "file").write_text("x\n")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "x"], ["tag", tag]):
        subprocess.run([*GIT, "-C", str(clone), *words], check=True, timeout=60)
    if damaged:
        for path in (clone / ".git/objects").glob("??/*"):
            path.chmod(0o644)
            path.write_bytes(b"")
    monkeypatch.setattr(names, "clone", lambda site: str(clone))
    step: Any = steps.step(workarea.STAGE, "clone")
    look = step.look(place(MASTER))
    assert isinstance(look, ShellLook)
    library = f"first_writable() {{ :; }}\n{render.script('master/clone_checked.sh', clone=str(clone))}"
    script = f"{library}\n{look.body}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True)
    have = look.parse(done.stdout)
    if not damaged:
        assert have["at"] == "its tag"
        return
    assert have["at"].startswith("damaged: git says ") and "is corrupt" in have["at"], done
    (*_, action) = step.change(place(MASTER), have, {})
    assert isinstance(action, RunScript) and "git clone" in action.script
