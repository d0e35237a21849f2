"""The list of templates that are tried against hostile users."""

from __future__ import annotations

import re

from dws_on_csm.model import render
from tests.unit import listed
from tests.unit.hostile import HELD


def test_every_listed_test_exists() -> None:
    """A template whose test was renamed or removed is one without it."""
    assert all((render.TEMPLATES / name).is_file() for name in HELD)
    for module, name in {tuple(one.split(".")) for some in HELD.values() for one in some}:
        assert callable(getattr(listed.module(module), name, None)), name


def test_the_page_of_trust_names_tests_that_there_are() -> None:
    """Who reads docs/security.md can look each one up."""
    page = (render.TEMPLATES.parent / "docs/security.md").read_text()
    named = re.findall(r"\b(test_[a-z_]+): ([a-z0-9_]+(?:, [a-z0-9_]+)*)", page)
    assert len(named) > 10
    for module, names in named:
        for name in names.split(", "):
            assert callable(getattr(listed.module(module), f"test_{name}", None)), name


SLURMS = re.compile(r"(?<![\w/.-])(?:scontrol|squeue|sbatch|scancel|sinfo|sacct|sacctmgr|sdiag)\s+[-a-z]")
OTHERS = re.compile(r'\bsetpriv\b|\brunuser\b|\bsu\s+-|--kubeconfig "?\$(?!\{context)')


def lines(pattern: re.Pattern[str]) -> list[str]:
    """Lines of templates, and of scripts in the stages, in which it is found: comments, words for people and tests aside."""
    found = []
    for path in (
        *render.TEMPLATES.rglob("*.sh"),
        *(render.TEMPLATES.parent / "dws_on_csm/stages").rglob("slurm_user.py"),
    ):
        text = re.sub(r"\\\n\s*", "", path.read_text())
        for line in text.splitlines():
            code = re.sub(r"^\s*#.*|\s# .*|\becho .*|\bprintf '%s\\n' \"[^\"]*\"|\bfailed \"[^\"]*\"", "", line)
            if pattern.search(code):
                found.append(f"{path.name}: {line.strip()}")
    return found


def test_no_program_of_slurms_runs_as_root() -> None:
    """Each is behind `slurm` or `as` (templates/lib/slurmctld.sh, as.sh), in every template that there is or will be."""
    assert [
        line for line in lines(SLURMS) if not re.search(r"\bslurm |\bas |\bexec_as |\bas_user |command -v", line)
    ] == []
    assert len(lines(SLURMS)) > 10


def test_only_one_function_drops_rights() -> None:
    """Whatever runs as somebody else, or with a kubeconfig that is somebody else's, gets a clean environment and no lock."""
    allowed = r"as\.sh: |slurmctld\.sh: \[ -z \"\$group\" \]|\bas \"?\$|\bexec_as "
    assert [line for line in lines(OTHERS) if not re.search(allowed, line)] == []
