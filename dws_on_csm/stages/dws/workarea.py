"""The clone of dws at its tag on the master, and the kustomize that its Makefile asks for."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from dws_on_csm.bundle import sources
from dws_on_csm.config import site as site_data
from dws_on_csm.config.bundle_contents import Bundle
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import PARTS, Action, Put, RunScript
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, Finding, NotYetKnown, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import clone_library, manifests, plugin_workflow_version


class Clone(TypedDict):
    """The state of a clone.

    at        "absent", "its tag", "no commit", "writable by others", or the commit that is checked out
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

DAMAGED = "damaged"
"""A clone that git itself cannot read, as after a full disk or a loss of power: it is cloned again."""

_CLONE = """
[ -n "$entered" ] || exit 0
[ -n "$judged" ] || open=$(first_writable "$clone") || exit 1 # with the words of what fails
[ -z "$open" ] || {{ printf 'open=%s\\n' "$open"; exit 0; }}
tag=$(git rev-parse -q --verify 'refs/tags/v{version}^{{commit}}') || tag=
head=$(git rev-parse -q --verify HEAD) || head=
printf 'head=%s\\ntag=%s\\n' "$head" "$tag"
modified=$(git status --porcelain --untracked-files=no) || {{
    printf 'damaged=%s\\n' "$(git status --porcelain --untracked-files=no 2>&1 | grep -v '^$' | tail -n 1)"
    exit 0
}}
[ -z "$modified" ] || printf '%s\\n' "$modified" | sed 's/^...//; s/^/modified=/'
"""


def _look_clone(ctx: StepContext) -> ShellLook:
    return CLONE.shell(_CLONE.format(version=ctx.site.versions.dws), _parse_clone, clone_library.text(ctx))


def _parse_clone(out: bytes) -> Clone:
    output = parse_pairs(out)
    if not output:
        return {"at": "absent", "modified": [], "commit": ""}
    clone = first_values(output)
    if "open" in clone:
        return {"at": "writable by others", "modified": [], "commit": "", "open": clone["open"]}
    if "damaged" in clone:
        return {"at": f"{DAMAGED}: git says {clone['damaged']}", "modified": [], "commit": ""}
    at = "its tag" if clone["tag"] and clone["head"] == clone["tag"] else clone["head"] or "no commit"
    return {"at": at, "modified": all_values(output, "modified"), "commit": clone["tag"]}


def _want_clone(ctx: StepContext) -> Value:
    """The clone at the pinned commit if the site file pins one, else at the commit that the tag has."""
    have = ctx.facts.one_or_none(CLONE)
    commit = ctx.site.versions.commit("dws") or (have and have["commit"]) or "the tag's"
    return {"at": "its tag", "modified": [], "commit": commit}


def commit_text(have: Value) -> str:
    """The commit of a clone, for the journal and the report."""
    return f"commit {have['commit']}" if have and have.get("commit") else ""


def _change_clone(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    folder = names.clone(ctx.site)
    if have["modified"]:
        raise Refused(
            Finding(
                "workarea-modified",
                f"files in {folder} on {ctx.host} were changed: {', '.join(have['modified'])}; DWS would be deployed with an image "
                "tag that ends in -dirty, which no registry has",
                f"see the change with `git -C {folder} diff`, save it elsewhere, then run `git -C {folder} checkout .`",
            )
        )
    new = have["at"] == "absent" or have["at"].startswith(DAMAGED)
    template = "master/clone.sh" if new else "master/fetch.sh"
    return clone_actions(ctx, "dws", folder, have["commit"], have.get("open", ""), template)


def clone_actions(
    ctx: StepContext, name: Literal["dws", "plugin"], folder: str, commit: str, writable: str, template: str
) -> Sequence[Action]:
    """The actions that clone a repository at its version's tag into `folder`, or fetch the tag there.

    commit    of the tag in the present clone; "" for none. Raises Refused where the site file pins another commit
    writable  a path of the clone that other users can write; "" for none. Raises Refused: root must not run anything from it
    """
    version, pin = getattr(ctx.site.versions, name), ctx.site.versions.commit(name)
    if writable:
        text = f"other users than root can write {writable} on {ctx.host}, and root runs programs from {folder}"
        fix = f"remove {folder} on {ctx.host}, and it is cloned again; set master.workarea to a folder that only root can write"
        raise Refused(Finding("workarea-not-roots", text, fix))
    if pin and commit not in ("", pin):
        text = f"the tag v{version} in {folder} on {ctx.host} is commit {commit}, but the site file pins {pin}"
        fix = (
            f"find out which commit is right; then correct the site file, or remove {folder} on {ctx.host}, and it is cloned"
            " again"
        )
        raise Refused(Finding("commit-differs", text, fix))
    supply = sources.repository(ctx.site, name)
    settings = {"clone": folder, "tag": f"v{version}", "commit": pin, "sources": shlex.join(supply.sources)}
    settings |= {"origin": supply.origin, **sources.settings(ctx.site)}
    title = f"clone {'dws' if name == 'dws' else 'dws-slurm-bb-plugin'} v{version} into {folder}"
    script = render.script("lib/as.sh", "lib/proxy.sh", "lib/git.sh", template, **settings)
    return [*supply.uploads, RunScript(title, script, ctx.site.deadlines.clone)]


# --- kustomize


def _look_kustomize(ctx: StepContext) -> ShellLook:
    script = """
only_roots || exit 0
sed -n 's/^KUSTOMIZE_VERSION *?*= */asked=/p' Makefile
[ ! -x bin/kustomize ] || printf 'there=%s\\n' "$(bin/kustomize version 2>/dev/null)"
"""
    return KUSTOMIZE.shell(script, _parse_kustomize, clone_library.text(ctx))


def _parse_kustomize(out: bytes) -> Kustomize:
    output = first_values(parse_pairs(out))
    return {"asked": output.get("asked", ""), "there": output.get("there", "absent")}


def _want_kustomize(ctx: StepContext) -> Value:
    asked = ctx.facts.one(KUSTOMIZE)["asked"]
    if not asked:
        raise NotYetKnown("workarea")
    return {"asked": asked, "there": asked}


def _kustomize_status(have: Value) -> str:
    """Describe a kustomize of another version than the Makefile asks for; "" if the version is right."""
    if have is None or have["there"] == have["asked"]:
        return ""
    return f"bin/kustomize is {have['there']}, but the Makefile of this dws asks for {have['asked']}"


def _change_kustomize(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    site, folder = ctx.site, names.clone(ctx.site)
    given, bring = site.sources.kustomize, sources.kustomize(site, want["asked"])
    if bring:
        return [bring, _unpacked(site, folder, f"unpack {bring.name}", f"archive={PARTS}/{bring.name}")]
    if given is None and site.bundle:
        raise Refused(_bundle_kustomize(site.bundle, want["asked"]))
    if given is None:
        title = f"make kustomize: download and run upstream's install script for kustomize {want['asked']}"
        script = (
            render.script("lib/proxy.sh", **sources.settings(site))
            + f"cd {shlex.quote(folder)}\nwith_proxy make kustomize\n"
        )
        return [RunScript(title, script, site.deadlines.clone)]
    if "://" in given.source:
        return [_download(site, folder, given)]
    return [Put(f"{folder}/bin/kustomize", _local(given), 0o755)]


def _bundle_kustomize(bundle: Bundle, asked: str) -> Finding:
    text = f"the Makefile asks for kustomize {asked}, but {bundle.path} has {bundle.manifest.versions['kustomize']}"
    return Finding("bundle-kustomize", text, "make the bundle again from the repositories that this site uses")


def _local(given: site_data.Kustomize) -> bytes:
    """The kustomize of the site file, unpacked if it is a .tar.gz. Raises Refused if it does not match its checksum."""
    try:
        content = Path(given.source).expanduser().read_bytes()
    except OSError as error:
        raise Refused(Finding("kustomize-unreadable", str(error), "correct sources.kustomize.from")) from None
    if given.sha256 and hashlib.sha256(content).hexdigest() != given.sha256:
        fix = "find out whether the file or sources.kustomize.sha256 is right, before this file runs on the master"
        raise Refused(Finding("kustomize-checksum", f"{given.source} does not match its sha256", fix))
    if not content.startswith(b"\x1f\x8b"):
        return content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("kustomize")
        assert member is not None
        return member.read()


def _download(site: Site, folder: str, given: site_data.Kustomize) -> RunScript:
    script = f"""
archive=bin/.download
with_proxy curl --disable --proto =https --fail --silent --show-error --location --output "$archive" -- {shlex.quote(given.source)}
echo "{given.sha256}  $archive" | sha256sum --check --quiet
"""
    return _unpacked(site, folder, f"download kustomize from {given.source}", script)


def _unpacked(site: Site, folder: str, title: str, fetch: str) -> RunScript:
    """Put kustomize into bin/, from the binary or .tar.gz that the script `fetch` leaves at the path $archive."""
    script = f"""
cd {shlex.quote(folder)}
mkdir -p bin
rm -f bin/.download bin/.unpacked
trap 'rm -f bin/.download bin/.unpacked' EXIT
{fetch}
if gzip -t "$archive" 2>/dev/null; then tar -xzOf "$archive" kustomize >bin/.unpacked; else cp "$archive" bin/.unpacked; fi
chmod 755 bin/.unpacked
mv -f bin/.unpacked bin/kustomize
"""
    return RunScript(title, render.script("lib/proxy.sh", **sources.settings(site)) + script, site.deadlines.clone)


def _judge_rendered(ctx: StepContext, have: Value) -> Sequence[Finding]:
    return [*manifests.judge(ctx, have), *plugin_workflow_version.judge(ctx)]


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
            status_text=commit_text,
            hint="check that the master reaches sources.dws, and that the tag exists there; if offline, see docs/offline.md",
        ),
        Step(
            KUSTOMIZE.step,
            "master",
            _look_kustomize,
            _want_kustomize,
            _change_kustomize,
            status_text=_kustomize_status,
            hint="sources.kustomize has to be of the version that the Makefile asks for; without sources.kustomize the master "
            "downloads it; docs/offline.md has the other ways",
        ),
        Check(manifests.RENDERED.step, "master", manifests.look, _judge_rendered),
    ),
)
