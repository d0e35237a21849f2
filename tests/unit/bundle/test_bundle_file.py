"""Bundles: common tools can read them, and a change of any byte is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dws_on_csm.bundle import bundle_file
from dws_on_csm.config.bundle_contents import Manifest
from dws_on_csm.model.step import Refused
from tests.unit import bundles

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return bundles.written(tmp_path / "site.bundle", tmp_path / "parts")


def refused(path: Path) -> str:
    """The name of the finding that refuses a bundle."""
    with pytest.raises(Refused) as error:
        bundle_file.load(path)
    (finding,) = error.value.findings
    assert finding.fix
    return finding.name


def test_written_text_is_read_back(made: Path, tmp_path: Path) -> None:
    """The manifest and every part, byte for byte."""
    found = bundle_file.load(made)
    assert found.manifest == bundles.parts(tmp_path / "parts")
    for role, (name, _) in bundles.FILES.items():
        assert found.read(role) == (tmp_path / "parts" / name).read_bytes()


def test_a_bundle_is_a_tar_with_checksums_for_sha256sum(made: Path, tmp_path: Path) -> None:
    """`tar` and `sha256sum` can list and check a bundle."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", made, "-C", folder], check=True, timeout=60)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    check = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert check.stdout.count(": OK") == 6
    assert json.loads((folder / "manifest.json").read_text())["versions"] == bundles.VERSIONS


def test_the_same_parts_make_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """The time, the folder and the user do not matter."""
    again = tmp_path / "parts-again"
    assert bundles.written(tmp_path / "again.bundle", again).read_bytes() == made.read_bytes()


@pytest.mark.slow
def test_any_other_byte_is_refused(made: Path, tmp_path: Path) -> None:
    """One flipped bit anywhere: in content, checksums, names, padding or at the end.

    Every 11th byte: in each of the many headers that is another place.
    """
    whole, wrong = made.read_bytes(), tmp_path / "wrong.bundle"
    for at in range(0, len(whole), 11):
        wrong.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert refused(wrong) == "bundle-damaged", at


def test_a_shorter_or_longer_bundle_is_refused(made: Path, tmp_path: Path) -> None:
    """An incomplete copy, an empty one, and one with bytes after its end."""
    whole, wrong = made.read_bytes(), tmp_path / "wrong.bundle"
    for content in (b"", whole[:1], whole[:-1], whole[:-512], whole[: len(whole) // 2], whole + b"\0", whole + whole):
        wrong.write_bytes(content)
        assert refused(wrong) == "bundle-damaged"


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_path_that_is_no_file_is_reported(tmp_path: Path, name: str) -> None:
    """No such file, and a folder."""
    assert refused(tmp_path / name) == "bundle-unreadable"


def rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Path:
    """A valid bundle with another manifest."""
    text = bundle_file.manifest_text
    other = {"manifest_text": lambda manifest: json.dumps(json.loads(text(manifest)) | changes).encode()}
    monkeypatch.setattr(bundle_file, "manifest_text", other["manifest_text"])
    return bundles.written(tmp_path / "other.bundle", tmp_path / "parts")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"format": 2}, "bundle-format"),
        ({"parts": {}}, "bundle-damaged"),
        ({"versions": 1}, "bundle-damaged"),
        (
            {"parts": {role: {"file": "x", "size": 1, "sha256": "", "source": ""} for role in bundle_file.ROLES}},
            "bundle-damaged",
        ),
    ],
)
def test_a_manifest_that_tells_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], name: str
) -> None:
    """A manifest of another format, and one that does not list the bundle's files."""
    assert refused(rewritten(tmp_path, monkeypatch, **changes)) == name


def test_a_part_that_changes_after_the_check_is_refused(made: Path) -> None:
    """Only checked content is sent."""
    found = bundle_file.load(made)
    content = bytearray(made.read_bytes())
    content[found.offsets["dws-0.0.20.bundle"]] ^= 1
    made.write_bytes(content)
    assert found.read("plugin")
    with pytest.raises(ValueError, match=r"dws-0\.0\.20\.bundle has changed since"):
        found.read("dws")


def test_one_that_can_not_be_written_leaves_the_older_one(made: Path, tmp_path: Path) -> None:
    """No incomplete bundle is left under any name."""
    before, manifest = made.read_bytes(), bundles.parts(tmp_path / "parts")
    (tmp_path / "parts" / "kustomize-v5.1.1.tar.gz").unlink()
    with pytest.raises(FileNotFoundError):
        bundle_file.write(made, manifest, tmp_path / "parts")
    assert made.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"site.bundle", "parts"}


# --- does it fit the site


def test_a_bundle_with_the_sites_versions_supplies_it(made: Path, tmp_path: Path) -> None:
    """Only the sources of the site change."""
    site = bundles.site(tmp_path)
    supplied = bundle_file.attach(site, made)
    assert supplied.bundle and supplied.bundle.manifest.versions == bundles.VERSIONS
    assert supplied.versions == site.versions


def test_each_version_that_differs_is_refused_with_the_fix(made: Path, tmp_path: Path) -> None:
    """All differences at once, with the versions of the bundle and of the site file."""
    site = bundles.site(tmp_path, "versions: {dws: 0.0.19, kube_rbac_proxy: v0.15.0}\n")
    with pytest.raises(Refused) as error:
        bundle_file.attach(site, made)
    one, two = error.value.findings
    assert one.text == f"{made} has dws 0.0.20, but {site.path} wants 0.0.19"
    assert one.fix.startswith("set versions.dws to 0.0.20, or make a bundle for this site file")
    assert "kube_rbac_proxy v0.14.1" in two.text


def test_a_refused_bundle_is_reported_before_any_connection(made: Path, tmp_path: Path) -> None:
    """Exit code 3 and the fix, before any host is reached; no run begins."""
    site = bundles.site(tmp_path, "versions: {dws: 0.0.19}\n")
    command = [sys.executable, "-m", "invoke", "install", f"--hosts={site.path}", f"--bundle={made}", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("bundle-version: ") and "set versions.dws to 0.0.20" in done.stderr
    assert "nowhere" not in done.stderr and "runs/" not in done.stderr
    assert done.stdout == ""


def test_a_bundle_is_shown_with_all_that_is_in_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bundle.show: the checksum as in sha256sum, the versions, and each part with its source."""
    from dws_on_csm.commands import bundle

    assert bundle.show(str(made)) == 0
    said = capsys.readouterr().out
    digest = subprocess.run(["sha256sum", made], capture_output=True, text=True, check=True).stdout.split()[0]
    assert digest in said
    assert all(name in said and source in said for name, source in bundles.FILES.values())
    made.write_bytes(made.read_bytes()[:-1])
    assert bundle.show(str(made)) == 3
    assert "bundle-damaged" in capsys.readouterr().err


def test_a_manifest_is_listed_in_a_fixed_order() -> None:
    """Its keys are sorted, so that people can compare two bundles."""
    text = bundle_file.manifest_text(Manifest({"b": "1", "a": "2"}, {}, {})).decode()
    assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")
