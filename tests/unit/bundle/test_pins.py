"""Only pinned content is used, from whatever source; and no source can be changed on the network."""

from __future__ import annotations

import shlex
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dws_on_csm.bundle import build, bundle_file, download, git, oci, sources
from dws_on_csm.bundle.download import SourceError
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, Refused, ShellLook, StepContext
from dws_on_csm.stages.dws import images, workarea
from dws_on_csm.stages.slurm import plugin
from tests.unit import bundles, steps
from tests.unit.hostile import SLURM_USER, Host, hostile_host, needs_root

__all__ = ["hostile_host"]

TAG, OTHER = "v0.0.20", "ab" * 20
DIGEST = f"sha256:{'0c' * 32}"


def commit_of(folder: Path) -> str:
    """The commit that the tag is."""
    words = ["git", "-C", str(folder), "rev-parse", f"refs/tags/{TAG}^{{commit}}"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def pinned(folder: Path, commit: str = "", source: str = "https://nowhere.invalid/x.git") -> Site:
    """A site whose DWS is pinned to that commit; "": not pinned."""
    version = {"tag": TAG[1:], "commit": commit} if commit else TAG[1:]
    return bundles.site(folder, yaml.safe_dump({"versions": {"dws": version}, "sources": {"dws": [source]}}))


def clone(site: Site, folder: Path, template: str = "master/clone.sh") -> subprocess.CompletedProcess[str]:
    """The script by which the stage workarea gets DWS."""
    told = {"clone": str(folder), "tag": TAG, "commit": site.versions.commit("dws"), "origin": ""}
    told |= {"sources": shlex.join(sources.repository(site, "dws").sources), **sources.settings(site)}
    script = "set -eu\n" + render.script("lib/as.sh", "lib/proxy.sh", "lib/git.sh", template, **told)
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)


# --- commits


def test_a_tag_that_is_not_the_pinned_commit_is_not_cloned(tmp_path: Path) -> None:
    """No clone is left that make could run; the message has both commits and the source. The pinned commit is cloned."""
    upstream = bundles.repository(tmp_path / "upstream", Makefile="all:\n\ttouch harmed\n")
    url, commit = f"file://{upstream}", commit_of(upstream)
    answer = clone(pinned(tmp_path, OTHER, url), tmp_path / "clone")
    assert answer.returncode == 1
    assert f"{TAG} of {url} is {commit}, but the site file pins {OTHER}" in answer.stderr
    assert list(tmp_path.glob("clone*")) == []
    assert clone(pinned(tmp_path, commit.upper(), url), tmp_path / "clone").returncode == 0
    assert commit_of(tmp_path / "clone") == commit


def test_nothing_is_cloned_into_a_folder_of_others(tmp_path: Path) -> None:
    """Somebody could put a repository there whose settings name programs, before git has made its own."""
    upstream = bundles.repository(tmp_path / "upstream")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    answer = clone(pinned(tmp_path, commit_of(upstream), f"file://{upstream}"), shared / "clone")
    assert answer.returncode == 1 and "others than root can write" in answer.stderr and list(shared.iterdir()) == []


def test_a_tag_that_comes_into_a_clone_is_held_against_the_pin_too(tmp_path: Path) -> None:
    """Before it is checked out."""
    upstream, there = bundles.repository(tmp_path / "upstream"), bundles.repository(tmp_path / "clone", "v0.0.1")
    head = git.text(["-C", str(there), "rev-parse", "HEAD"], 30)
    assert clone(pinned(tmp_path, OTHER, f"file://{upstream}"), there, "master/fetch.sh").returncode == 1
    assert git.text(["-C", str(there), "rev-parse", "HEAD"], 30) == head


def test_a_branch_of_the_tags_name_is_not_taken_for_it(tmp_path: Path) -> None:
    """git checkout would take the branch."""
    upstream = bundles.repository(tmp_path / "upstream")
    git.text(["-C", str(upstream), "checkout", "-q", "-b", TAG], 30)
    subprocess.run(["sh", "-c", f"{bundles.GIT} commit -q --allow-empty -m evil"], cwd=upstream, check=True, timeout=30)
    assert clone(pinned(tmp_path, "", f"file://{upstream}"), tmp_path / "clone").returncode == 0
    head = git.text(["-C", str(tmp_path / "clone"), "rev-parse", "HEAD"], 30).strip()
    assert head == commit_of(upstream)


def looked(site: Site, step: str = "clone") -> object:
    """The result of the look at the clone of DWS."""
    (item,) = (one for one in workarea.STAGE.steps if one.name == step)
    look = item.look(StepContext(site, Facts(), "m"))
    assert isinstance(look, ShellLook)
    done = subprocess.run(["sh", "-c", look.script], capture_output=True, timeout=60, check=True)
    return look.parse(done.stdout)


def test_an_existing_clone_is_compared_with_the_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every run, by name, before any of its code runs; the journal has the used commit, pinned or not."""
    there = bundles.repository(tmp_path / "clone")
    git.text(["-C", str(there), "checkout", "-q", TAG], 30)
    monkeypatch.setattr(names, "clone", lambda site: str(there))
    for pin in ("", commit_of(there)):
        have = looked(site := pinned(tmp_path, pin))
        place = StepContext(site, Facts({"workarea.clone": {"m": have}}), "m")
        assert steps.step(workarea.STAGE, "clone").want(place) == have
        assert workarea.commit_text(have) == f"commit {commit_of(there)}"
    have = looked(site := pinned(tmp_path, OTHER))
    place = StepContext(site, Facts({"workarea.clone": {"m": have}}), "m")
    want = steps.step(workarea.STAGE, "clone").want(place)
    assert want != have
    with pytest.raises(
        Refused, match=f"commit-differs: .* is commit {commit_of(there)}, but the site file pins {OTHER}"
    ):
        steps.change(workarea.STAGE, "clone", place, have, want)


def test_a_pin_is_valid_for_its_version_only(tmp_path: Path) -> None:
    """The earlier version, which an upgrade undeploys, has another commit."""
    versions = pinned(tmp_path, OTHER).versions
    assert versions.commit("dws") == OTHER
    assert replace(versions, dws="0.0.19").commit("dws") == "" == versions.commit("plugin")


def test_plugin_files_of_an_unpinned_commit_are_not_installed(tmp_path: Path) -> None:
    """Their right content is unknown then, and the clone is refused."""
    site = bundles.site(tmp_path, yaml.safe_dump({"versions": {"plugin": {"tag": "0.0.5", "commit": OTHER}}}))
    found = {"there": True, "commit": "cd" * 20, "modified": [], "open": "", "files": dict.fromkeys("ab", "")}
    place = StepContext(site, Facts({"plugin.repository": {"m": found}}), "m")
    with pytest.raises(Exception, match="plugin"):
        plugin.upstream(place)
    have = steps.read(plugin.STAGE, "repository", place, found)
    with pytest.raises(Refused, match="commit-differs"):
        steps.change(plugin.STAGE, "repository", place, have, steps.step(plugin.STAGE, "repository").want(place))
    found["commit"] = OTHER
    assert plugin.upstream(place) == found["files"]


# --- images


def test_an_image_is_pulled_by_its_digest(tmp_path: Path) -> None:
    """Of a source that has one; the others are pulled by their tag."""
    site = bundles.site(tmp_path, yaml.safe_dump({"sources": {"dws_image": [f"a.b/dws@{DIGEST}", "c.d/dws"]}}))
    assert sources.image(site, "dws_image", "0.0.20").sources == [f"a.b/dws@{DIGEST}", "c.d/dws:0.0.20"]


def test_which_images_are_used_is_noted() -> None:
    """By the digest of each configuration, in the journal and in the report."""
    assert images.digests_text({"r/dws:1": {"registry": DIGEST, "pushed": DIGEST}}) == f"r/dws:1 {DIGEST}"


def test_a_bundle_contains_the_pinned_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is asked for the digest; the archive has the name with the tag."""
    asked: list[tuple[str, str]] = []

    def pull(source: oci.Remote, which: str, name: str, target: Path, *rest: object) -> str:
        asked.append((which, name))
        target.write_text("")
        return DIGEST

    monkeypatch.setattr(oci, "pull", pull)
    site = bundles.site(tmp_path, yaml.safe_dump({"sources": {"dws_image": [f"a.b/dws@{DIGEST}"]}}))
    part = build.image(build.BuildContext(site, tmp_path, lambda title: lambda done, total: None), "dws_image", "x.tar")
    assert asked == [(DIGEST, "a.b/dws:0.0.20")]
    assert part.source == f"a.b/dws@{DIGEST}"


# --- bundles


def test_a_bundle_that_differs_from_the_pins_is_refused(tmp_path: Path) -> None:
    """Commits and digests, before any host is connected to."""
    made = bundles.written(tmp_path / "site.bundle", tmp_path / "parts")
    pins = {"versions": {"dws": {"tag": "0.0.20", "commit": OTHER}}, "sources": {"dws_image": [f"a.b/dws@{DIGEST}"]}}
    with pytest.raises(Refused) as error:
        bundle_file.attach(bundles.site(tmp_path, yaml.safe_dump(pins)), made)
    assert [one.name for one in error.value.findings] == ["commit-differs", "digest-differs"]


def test_no_bundle_is_made_of_an_unpinned_commit(tmp_path: Path) -> None:
    """The same words as on the master."""
    upstream = bundles.repository(tmp_path / "upstream")
    work = build.BuildContext(pinned(tmp_path, OTHER, str(upstream)), tmp_path, lambda title: lambda done, total: None)
    with pytest.raises(Refused, match=f"commit-differs: .*{commit_of(upstream)}.* pins {OTHER}"):
        build.repository(work, "dws", "dws.bundle")


# --- the way


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.git", "git://127.0.0.1:1/x.git"])
def test_git_takes_no_way_on_which_others_could_change_what_comes(tmp_path: Path, url: str) -> None:
    """Also not as the target of a redirection: git itself gets the list of protocols."""
    site = pinned(tmp_path)
    site = replace(site, sources=replace(site.sources, dws=(url,)))  # no site file has it
    assert "not allowed" in clone(site, tmp_path / "clone").stderr
    with pytest.raises(SourceError, match="not allowed"):
        git.text(["ls-remote", url], 30)


# --- folders of others

USER_GROUP = "nogroup"
GIT_OF_ALL = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
"""git before 2.35.2: it obeys the settings of any user's repository."""


@needs_root
@pytest.mark.parametrize("theirs", [".", ".git/config"])
def test_nothing_of_a_clone_that_others_can_write_is_run(
    hostile_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Neither what its settings name, when git only looks at it, nor its kustomize: on `plan` too. It is refused by name."""
    top = hostile_host.top / "clone"
    bundles.repository(top, Makefile="KUSTOMIZE_VERSION ?= v1\n")
    harm = hostile_host.program("harm", 'id -u >>"$TOP/harmed"')
    git.text(["-C", str(top), "config", "core.fsmonitor", str(harm)], 30)
    (top / "bin").mkdir()
    (top / "bin/kustomize").symlink_to(harm)
    subprocess.run(["chown", "-h", SLURM_USER, top / theirs], check=True, timeout=30)
    monkeypatch.setattr(names, "clone", lambda site: str(top))
    site = bundles.site(tmp_path)
    place = StepContext(site, Facts(), "m")
    told, libraries = {}, set()
    for step in workarea.STAGE.steps:
        look = step.look(place)
        assert isinstance(look, ShellLook)
        libraries.add(look.library)
        told[step.name] = look.parse(hostile_host.run(look.script, environment=GIT_OF_ALL).stdout.encode())
    assert len(libraries) == 1, "whose clone it is, is found out once for all of them"
    settings = {"clone": str(top), "tag": TAG, "files": ""}
    script = render.script("lib/as.sh", "lib/git.sh", "master/plugin_look.sh", **settings)
    of_plugin = steps.parse(
        plugin.STAGE, "repository", hostile_host.run(script, environment=GIT_OF_ALL).stdout.encode()
    )
    assert not (hostile_host.top / "harmed").exists()
    assert of_plugin["open"] == told["clone"]["open"] == str(top / theirs).removesuffix("/.")
    with pytest.raises(Refused, match="workarea-not-roots"):
        steps.change(workarea.STAGE, "clone", place, told["clone"], None)


@needs_root
def test_a_clone_that_the_group_root_can_write_is_roots(hostile_host: Host) -> None:
    """With umask 002 root's group can write a clone: that is root. Another group's file in it is somebody else's."""
    top = hostile_host.top / "clone"
    bundles.repository(top)
    subprocess.run(["chmod", "-R", "g+w", top], check=True, timeout=30)
    script = f'{render.script("lib/as.sh", "lib/git.sh")}\nfirst_writable "{top}"\n'
    for shell in ("dash", "bash"):
        assert hostile_host.run(script, shell).stdout == ""
    subprocess.run(["chgrp", USER_GROUP, top / ".git/config"], check=True, timeout=30)
    assert hostile_host.run(script).stdout == f"{top}/.git/config\n"
    subprocess.run(["chgrp", USER_GROUP, top], check=True, timeout=30)
    assert hostile_host.run(script).stdout == f"{top}\n"


@needs_root
def test_a_repository_of_others_on_the_master_has_to_be_pinned(hostile_host: Host, tmp_path: Path) -> None:
    """A file:// URL of a folder that others can write is as good as their word."""
    upstream = bundles.repository(hostile_host.etc / "upstream")
    url = f"file://{upstream}"
    answer = clone(pinned(tmp_path, "", url), tmp_path / "clone")
    assert (answer.returncode, f"others than root can write {url}" in answer.stderr) == (1, True)
    assert clone(pinned(tmp_path, commit_of(upstream), url), tmp_path / "clone").returncode == 0


@pytest.mark.parametrize("url", ["http://mirror/layer", "ftp://mirror/layer"])
def test_downloads_over_https_stay_on_https(url: str) -> None:
    """A redirection to anything else is not followed; one to https:// is, and one of what was asked for over http://."""
    handler = download.Redirects()

    def led(first: str, then: str) -> bool:
        asked = urllib.request.Request(first)  # noqa: S310 - nothing is opened
        return handler.redirect_request(asked, None, 302, "", {}, then) is not None

    with pytest.raises(urllib.error.URLError, match="redirects to"):
        led("https://registry/v2/", url)
    assert led("https://registry/v2/", "https://mirror/layer")
    assert led("http://127.0.0.1/", "http://127.0.0.1/layer")
