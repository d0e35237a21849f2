"""Which versions work together, as data: each row with its source, so that a reader can check it and add the next version."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dws_on_csm.domain.names import version_key
from dws_on_csm.model.step import Finding


@dataclass(frozen=True)
class Row:
    """Where the subject of `when` is in its range of versions, the subject of `must` must be in its own range.

    Ranges are comparisons that must all be true: "0.0.5", ">=23.02", ">=0.0.5 <0.1.13". `remedy`: what this tool does about a
    broken row; a row with a remedy is no finding, unless the site file declines it (then it has a fix, too).
    """

    name: str
    when: tuple[str, str]
    must: tuple[str, str]
    why: str
    fix: str
    source: str
    remedy: str = ""


TABLE = (
    Row(
        "slurm-too-old",
        ("plugin", ">=0.0.5"),
        ("slurm", ">=23.02"),
        "before 23.02, Slurm does not pass job_info to the hooks, and the plugin takes the job's id from it",
        "upgrade Slurm, or set versions.plugin: 0.0.4, which was made for older versions",
        "Slurm's NEWS, 23.02.0pre1 (job_info for most hooks); slurm_bb_job_process in burst_buffer.lua of v0.0.5",
    ),
    Row(
        "plugin-too-old",
        ("plugin", "<0.0.5"),
        ("slurm", "<23.02"),
        "that plugin was made for Slurm before 23.02",
        "set versions.plugin: 0.0.5",
        "slurm_bb_job_process in burst_buffer.lua of v0.0.4 takes the script alone",
    ),
    Row(
        "hooks-missing",
        ("plugin", "<=0.0.5"),
        ("slurm", "<24.05"),
        "from 24.05 on, slurmctld does not start without slurm_bb_test_data_in and slurm_bb_test_data_out",
        "",
        "Slurm's NEWS, 24.05; req_fxns in src/plugins/burst_buffer/lua/burst_buffer_lua.c of 24.11.5; seen on 24.11.5",
        remedy="a marked block at the end of burst_buffer.lua defines the missing hooks",
    ),
    Row(
        "slurm-lua-5.1",
        ("plugin", ">=0.0.0"),
        ("lua", ">=5.2"),
        "with Lua 5.1, popen():close() returns no exit code, so the plugin treats every kubectl call as failed",
        "build Slurm's burst_buffer_lua.so with Lua 5.2 or newer; Debian's packages have 5.1",
        "Lua 5.2's manual, 8.2 (io.close of a popen file); burst_buffer.lua of v0.0.5, DWS:io_popen; seen on Debian 12 and 13",
    ),
    Row(
        "dws-too-new",
        ("plugin", "<=0.0.5"),
        ("dws", "<0.1.13"),
        "the plugin writes Workflows of v1alpha2, which DWS serves only until 0.1.12",
        "set plugin.workflow_version: auto, or versions.dws: 0.1.12 or older",
        "api/ and config/crd of dws v0.1.12 to v0.1.17; burst_buffer.lua of v0.0.5, DWS:template",
        remedy="plugin.workflow_version: auto changes it in burst_buffer.lua to a version that DWS serves",
    ),
    Row(
        "cert-manager-v1",
        ("dws", ">=0.0.0"),
        ("cert-manager", "<1.6"),
        "the csm overlay needs cert-manager.io/v1alpha3, which cert-manager serves only before 1.6",
        "",
        "config/csm of dws v0.0.20 and v0.1.17; cert-manager's release notes of 1.6; CSM 1.6 ships 1.12.9 (docs-csm)",
        remedy="our own overlay changes it to cert-manager.io/v1",
    ),
    Row(
        "kubernetes-too-old",
        ("dws", ">=0.0.0"),
        ("kubernetes", ">=1.20"),
        "DWS's procedure was written for CSM 1.2 and later, and CSM 1.2 has Kubernetes 1.20",
        "upgrade CSM",
        "docs-csm 1.2 to 1.6: Kubernetes 1.20 to 1.24 and later",
    ),
)


def within(version: str, span: str) -> bool:
    """Whether every comparison of `span` is true for `version`; missing numbers count as 0 (23.02 is 23.2.0)."""
    return all(_is_true(version, comparison) for comparison in span.split())


def _is_true(version: str, comparison: str) -> bool:
    number = comparison.lstrip("<>=")
    left, right = _padded(version), _padded(number)
    sign = comparison[: len(comparison) - len(number)] or "="
    return {"=": left == right, "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]


def _padded(version: str) -> tuple[int, ...]:
    return (*version_key(version), 0, 0, 0, 0)[:4]


def broken(versions: Mapping[str, str]) -> Sequence[Row]:
    """The rows that these versions break. `versions`: subject -> version ("slurm": "24.11.5"); an unknown one breaks none."""
    return [row for row in TABLE if _applies(row, versions) and not within(versions[row.must[0]], row.must[1])]


def _applies(row: Row, versions: Mapping[str, str]) -> bool:
    known = bool(versions.get(row.when[0]) and versions.get(row.must[0]))
    return known and within(versions[row.when[0]], row.when[1])


def findings(versions: Mapping[str, str], host: str = "", declined: Collection[str] = ()) -> Sequence[Finding]:
    """The findings of these versions; `host`: where they were read; `declined`: rows whose remedy the site does not want."""
    where = f" on {host}" if host else ""
    return [
        Finding(row.name, f"{row.must[0]} {versions[row.must[0]]}{where}: {row.why} ({row.source})", row.fix)
        for row in broken(versions)
        if not row.remedy or row.name in declined
    ]
