"""The version of the Workflows that burst_buffer.lua writes: found, changed with a mark, and chosen among those of a CRD."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.domain.workflow_version import READS, WRITES, Version, choose, lacking, newest, rewritten, written

LUA = Path("lab/upstream/dws-slurm-bb-plugin/src/burst_buffer/burst_buffer.lua").read_text()


def version(*, served: bool = True, storage: bool = False) -> Version:
    """A version with everything that the plugin uses."""
    return {"served": served, "storage": storage, "fields": {**WRITES, **READS}, "required": ["jobID"]}


def test_the_version_that_a_plugin_writes() -> None:
    """It is in the template of a Workflow; a file without one writes none that this tool knows."""
    assert written(LUA) == "v1alpha2"
    assert written("-- dataworkflowservices.github.io/v1alpha2\n") == ""


def test_a_changed_file_differs_in_the_version_and_says_so() -> None:
    """One word is another one, and a comment at the end says what was changed, by whom and why; Lua can still read it."""
    text = rewritten(LUA, "v1alpha7", "DWS 0.1.17 serves it no more")
    number = next(n for n, line in enumerate(LUA.split("\n"), 1) if "apiVersion: " in line)
    added = (
        f"-- changed by dws-on-csm: v1alpha2 is now v1alpha7 in line {number}, because DWS 0.1.17 serves it no more\n"
    )
    assert text == LUA.replace("github.io/v1alpha2", "github.io/v1alpha7").rstrip() + "\n\n" + added
    assert written(text) == "v1alpha7"
    lua = shutil.which("luac5.4") or shutil.which("lua5.4")
    assert lua, "lua5.4 is needed: apt-get install lua5.4"
    words = [lua, "-p", "-"] if "luac" in lua else [lua, "-e", "assert(load(io.read('a')))"]
    assert subprocess.run(words, input=text, text=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("text", [LUA, "nothing of DWS\n"])
def test_a_file_that_needs_no_change_stays_as_it_is(text: str) -> None:
    """Byte for byte, without a mark."""
    assert rewritten(text, "v1alpha2", "because") == text


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"v1alpha2": version(storage=True)}, "v1alpha2"),
        ({"v1alpha2": version(), "v1alpha5": version(storage=True)}, "v1alpha2"),
        ({"v1alpha2": version(served=False), "v1alpha6": version(), "v1alpha7": version(storage=True)}, "v1alpha7"),
        ({"v1alpha9": version(), "v1alpha10": version(), "v1": version(served=False, storage=True)}, "v1alpha10"),
        ({"v1alpha2": version(served=False)}, ""),
    ],
)
def test_the_version_to_write(versions: dict[str, Version], chosen: str) -> None:
    """The plugin's own where it is served; else the stored one; else the newest one; none where none is served."""
    assert choose(versions, "v1alpha2") == chosen


def test_versions_are_ordered_as_kubernetes_does() -> None:
    """By number, and stable ones last."""
    assert newest(["v1alpha2", "v1alpha10"]) == "v1alpha10"
    assert newest(["v1beta1", "v1alpha10", "v1"]) == "v1" and newest([]) == ""


def test_what_makes_a_version_unfit_is_named() -> None:
    """A field that is missing or has another type, and one that is required and that the plugin does not write."""
    assert lacking(version()) == []
    fields = {**WRITES, **READS, ".spec.userID": "string"}
    del fields[".status.drivers[].error"]
    unfit: Version = {"served": True, "storage": True, "fields": fields, "required": ["jobID", "project"]}
    assert lacking(unfit) == [
        "status.drivers[].error is missing",
        "spec.userID is of type string, not integer",
        "spec.project is required, and the plugin does not write it",
    ]
