"""`invoke doctor` as a whole: docs/when-it-fails.md lists all its findings, and it checks all that an install checks."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from dws_on_csm.commands.doctor.probes import stages
from dws_on_csm.config.load import ROOT
from dws_on_csm.domain.compatibility import TABLE
from dws_on_csm.stages.install import procedure
from tests.unit.commands.doctor.context import SITE


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
