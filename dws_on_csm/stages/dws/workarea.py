"""The clone of dws at its tag on the master, and the kustomize that its Makefile asks for."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from dws_on_csm.bundle import supply as supplies
from dws_on_csm.config import site as site_data
from dws_on_csm.config.bundle_contents import Bundle
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import PARTS, Action, Put, RunScript
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, Finding, NotYetKnown, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import manifests


class Clone(TypedDict):
    """The state of a clone.

    at        "absent", "its tag", "no commit", "not root's alone", or the commit that is checked out
    modified  paths of the files that somebody changed
    commit    the commit of the wanted tag; "" if the clone does not have that tag
    open      the part of it that other users than root can write, if there is any
    """

    at: str
    modified: list[str]
    commit: str
    open: NotRequired[str]


class Kustomize(TypedDict):
    """The version of kustomize that the Makefile asks for ("" if unknown), and the one in bin/ (or "absent")."""

    asked: str
    there: str


CLONE: Fact[Clone] = Fact("workarea", "clone")
KUSTOMIZE: Fact[Kustomize] = Fact("workarea", "kustomize")

_CLONE = """
cd {clone} 2>/dev/null || exit 0
open=$(theirs {clone})
[ -z "$open" ] || {{ printf 'open=%s\\n' "$open"; exit 0; }}
tag=$(git rev-parse -q --verify 'refs/tags/v{version}^{{commit}}') || tag=
head=$(git rev-parse -q --verify HEAD) || head=
printf 'head=%s\\ntag=%s\\n' "$head" "$tag"
modified=$(git status --porcelain --untracked-files=no) || exit 1
[ -z "$modified" ] || printf '%s\\n' "$modified" | sed 's/^...//; s/^/modified=/'
"""


def _look_clone(ctx: StepContext) -> ShellLook:
    script = _CLONE.format(clone=shlex.quote(names.clone(ctx.site)), version=ctx.site.versions.dws)
    return CLONE.shell(render.script("lib/as.sh", "lib/git.sh") + script, _parse_clone)


def _parse_clone(out: bytes) -> Clone:
    told = parse_pairs(out)
    if not told:
        return {"at": "absent", "modified": [], "commit": ""}
    found = first_values(told)
    if "open" in found:
        return {"at": "not root's alone", "modified": [], "commit": "", "open": found["open"]}
    at = "its tag" if found["tag"] and found["head"] == found["tag"] else found["head"] or "no commit"
    return {"at": at, "modified": all_values(told, "modified"), "commit": found["tag"]}


def _want_clone(ctx: StepContext) -> Value:
    """With a pinned commit that one; else whichever the tag has."""
    have = ctx.facts.one_or_none(CLONE)
    commit = ctx.site.versions.commit("dws") or (have and have["commit"]) or "the tag's"
    return {"at": "its tag", "modified": [], "commit": commit}


def used(have: Value) -> str:
    """Which commit a clone is at, for the journal and the report."""
    return f"commit {have['commit']}" if have and have.get("commit") else ""


def not_roots(folder: str, host: str, which: str) -> Finding:
    """A clone that root must run nothing of: others could have changed it, or its settings."""
    text = f"others than root can write {which} on {host}, and root runs what is in {folder}"
    fix = f"remove {folder} there, and it is cloned anew; keep master.workarea in a folder of root's"
    return Finding("workarea-not-roots", text, fix)


def other_commit(folder: str, host: str, version: str, at: str, wanted: str) -> Finding:
    """A clone whose tag is not what the site file pins."""
    text = f"v{version} of {folder} on {host} is commit {at}, and the site file pins {wanted}"
    fix = (
        f"find out which of both is right; then correct the site file, or remove {folder} there, and it is cloned anew"
    )
    return Finding("commit-differs", text, fix)


def _change_clone(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    folder = names.clone(ctx.site)
    if have["modified"]:
        raise Refused(
            Finding(
                "workarea-modified",
                f"{folder} on {ctx.host} was changed: {', '.join(have['modified'])}; git would give its image a "
                "-dirty tag that no registry has",
                f"look at it with `git -C {folder} diff`, then keep the change elsewhere and `git -C {folder} checkout .`",
            )
        )
    if "open" in have:
        raise Refused(not_roots(folder, ctx.host, have["open"]))
    pin = ctx.site.versions.commit("dws")
    if pin and have["commit"] not in ("", pin):
        raise Refused(other_commit(folder, ctx.host, ctx.site.versions.dws, have["commit"], pin))
    tag, supply = f"v{ctx.site.versions.dws}", supplies.repository(ctx.site, "dws")
    told = {"clone": folder, "tag": tag, "commit": pin, "sources": shlex.join(supply.sources), "origin": supply.origin}
    template = "master/clone.sh" if have["at"] == "absent" else "master/fetch.sh"
    script = render.script("lib/as.sh", "lib/via.sh", "lib/git.sh", template, **told, **supplies.settings(ctx.site))
    return [*supply.uploads, RunScript(f"clone dws {tag} into {folder}", script, ctx.site.deadlines.clone)]


# --- kustomize


def _look_kustomize(ctx: StepContext) -> ShellLook:
    script = """
cd {clone} 2>/dev/null || exit 0
[ -z "$(theirs {clone})" ] || exit 0
sed -n 's/^KUSTOMIZE_VERSION *?*= */asked=/p' Makefile
[ ! -x bin/kustomize ] || printf 'there=%s\\n' "$(bin/kustomize version 2>/dev/null)"
"""
    whole = render.script("lib/as.sh", "lib/git.sh") + script.format(clone=shlex.quote(names.clone(ctx.site)))
    return KUSTOMIZE.shell(whole, _parse_kustomize)


def _parse_kustomize(out: bytes) -> Kustomize:
    found = first_values(parse_pairs(out))
    return {"asked": found.get("asked", ""), "there": found.get("there", "absent")}


def _want_kustomize(ctx: StepContext) -> Value:
    asked = ctx.facts.one(KUSTOMIZE)["asked"]
    if not asked:
        raise NotYetKnown("workarea")
    return {"asked": asked, "there": asked}


def _other_version(have: Value) -> str:
    """That the kustomize which is there is another one than is asked for; "" if it is that one."""
    if have is None or have["there"] == have["asked"]:
        return ""
    return f"bin/kustomize is {have['there']}, and the Makefile of this dws asks for {have['asked']}"


def _change_kustomize(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    site, folder = ctx.site, names.clone(ctx.site)
    given, bring = site.sources.kustomize, supplies.kustomize(site, want["asked"])
    if bring:
        return [bring, _unpacked(site, folder, f"unpack {bring.name}", f"archive={PARTS}/{bring.name}")]
    if given is None and site.bundle:
        raise Refused(_other_kustomize(site.bundle, want["asked"]))
    if given is None:
        title = f"make kustomize: downloads and runs upstream's install script for kustomize {want['asked']}"
        script = (
            render.script("lib/via.sh", **supplies.settings(site)) + f"cd {shlex.quote(folder)}\nvia make kustomize\n"
        )
        return [RunScript(title, script, site.deadlines.clone)]
    if "://" in given.source:
        return [_download(site, folder, given)]
    return [Put(f"{folder}/bin/kustomize", _local(given), 0o755)]


def _other_kustomize(bundle: Bundle, asked: str) -> Finding:
    text = f"the Makefile asks for kustomize {asked}, and {bundle.path} has {bundle.manifest.versions['kustomize']}"
    return Finding("bundle-kustomize", text, "make the bundle anew from the repositories that the site has")


def _local(given: site_data.Kustomize) -> bytes:
    """The kustomize of the site file, out of its .tar.gz if it is in one. Raises Refused if it isn't what was meant."""
    try:
        content = Path(given.source).expanduser().read_bytes()
    except OSError as error:
        raise Refused(Finding("kustomize-unreadable", str(error), "correct sources.kustomize.from")) from None
    if given.sha256 and hashlib.sha256(content).hexdigest() != given.sha256:
        fix = "find out which of both is right before anything of it runs on the master"
        raise Refused(Finding("kustomize-checksum", f"{given.source} is not what its sha256 says", fix))
    if not content.startswith(b"\x1f\x8b"):
        return content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("kustomize")
        assert member is not None
        return member.read()


def _download(site: Site, folder: str, given: site_data.Kustomize) -> RunScript:
    script = f"""
archive=bin/.download
via curl --proto =https --fail --silent --show-error --location --output "$archive" -- {shlex.quote(given.source)}
echo "{given.sha256}  $archive" | sha256sum --check --quiet
"""
    return _unpacked(site, folder, f"download kustomize from {given.source}", script)


def _unpacked(site: Site, folder: str, title: str, gets: str) -> RunScript:
    """kustomize into bin/, from the binary or .tar.gz that the script `gets` leaves at the path $archive."""
    script = f"""
cd {shlex.quote(folder)}
mkdir -p bin
rm -f bin/.download bin/.unpacked
trap 'rm -f bin/.download bin/.unpacked' EXIT
{gets}
if gzip -t "$archive" 2>/dev/null; then tar -xzOf "$archive" kustomize >bin/.unpacked; else cp "$archive" bin/.unpacked; fi
chmod 755 bin/.unpacked
mv -f bin/.unpacked bin/kustomize
"""
    return RunScript(title, render.script("lib/via.sh", **supplies.settings(site)) + script, site.deadlines.clone)


STAGE = Stage(
    "workarea",
    ("preflight",),
    (
        Step(
            CLONE.step,
            "master",
            _look_clone,
            _want_clone,
            _change_clone,
            status_text=used,
            hint="see whether the master reaches sources.dws and whether that tag exists there; docs/offline.md if it can't",
        ),
        Step(
            KUSTOMIZE.step,
            "master",
            _look_kustomize,
            _want_kustomize,
            _change_kustomize,
            status_text=_other_version,
            hint="sources.kustomize has to be the one that is asked for; where the site file has none, the master downloads it, "
            "and docs/offline.md says what else there is",
        ),
        Check(manifests.RENDERED.step, "master", manifests.look, manifests.judge),
    ),
)
