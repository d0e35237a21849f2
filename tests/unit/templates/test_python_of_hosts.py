"""Every program that a host's own Python runs is for Python 3.6, and reads and writes UTF-8 whatever the locale is."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.kube import proxy
from dws_on_csm.model import render
from dws_on_csm.stages.dws import closing, dependents, manifests, open_dws, remove
from dws_on_csm.stages.slurm import close_dws

ROOT = Path(names.__file__).parents[2]
ODD = "b\u00fcffer \u65e5\u672c"
"""What people write: a name, a path, a mount point."""

DEPENDENTS, LAST_LOOK = render.read("master/dependents.py"), render.read("master/last_look.py")
PROGRAMS = {
    "kube/api_relay.py": proxy.PROGRAM,
    "domain/dws_objects.py": Path(dws_objects.__file__).read_text(),
    "stages/dws/manifests.TRIM": manifests.TRIM,
    "stages/dws/remove.WITHOUT_NAMESPACE": remove.WITHOUT_NAMESPACE,
    "stages/slurm/close_dws": close_dws.close_command(closing.CONFIGURATION),
    "stages/dws/dependents": f"{dependents.program()}\nlook_for_owned(False)",
    "stages/dws/remove": f"{open_dws.PROGRAM}{DEPENDENTS}{LAST_LOOK}",
    **{str(path.relative_to(render.TEMPLATES)): path.read_text() for path in render.TEMPLATES.rglob("*.py")},
}
"""The programs, by where they are: those in templates/, and those in dws_on_csm/ that a script starts with python3."""


def source(name: str) -> str:
    """A program's text; the shell's words around it left out."""
    text = PROGRAMS[name]
    if name == "stages/slurm/close_dws":
        return shlex.split(text)[-1]
    return text


def test_every_program_is_listed() -> None:
    """A new call of python3 in a script needs its program in this list: the calls are counted where they stand."""
    texts = [*(ROOT / "dws_on_csm").rglob("*.py"), *(ROOT / "templates").rglob("*.sh")]
    calls = {
        str(path.relative_to(ROOT)): len(found)
        for path in texts
        if (found := re.findall(r"python3 (?:-c (?!'import yaml')|\"\$)", path.read_text()))
    }
    assert calls == {
        "dws_on_csm/kube/proxy.py": 1,
        "dws_on_csm/stages/dws/manifests.py": 1,
        "dws_on_csm/stages/dws/dependents.py": 1,
        "dws_on_csm/stages/dws/remove.py": 1,
        "dws_on_csm/stages/slurm/close_dws.py": 1,
        "templates/master/registry.sh": 1,
        "templates/master/undeploy.sh": 2,
        "templates/pod/rollout.sh": 1,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_for_python_3_6(tmp_path: Path, name: str) -> None:
    """Its syntax and its library, as vermin knows them. SLES 15 has 3.6, also with SP6."""
    file = tmp_path / "program.py"
    file.write_text(source(name))
    options = ["--no-config-file", "--no-tips", "--violations", "--target=3.6-", "--eval-annotations"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("vermin")), *options, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_programs_text_is_ascii(name: str) -> None:
    """With LC_ALL=C, Python 3.6 takes no other text after -c."""
    assert source(name).isascii()


TEXT_CALLS = {"open", "read_text", "write_text", "TextIOWrapper", "fdopen"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_names_its_encodings(name: str) -> None:
    """No text is read or written by the locale's encoding: files, standard input, other programs' output, and what it prints
    where that may have other characters than ASCII."""
    assert not re.search(r"sys\.std(in|out)\b(?!\.(buffer|flush))", source(name).replace("sys.stdin.buffer", ""))
    for node in ast.walk(ast.parse(source(name))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called.startswith("subprocess."):
            assert not {"universal_newlines", "text"} & keywords.keys(), ast.unparse(node)
        if called.rpartition(".")[2] in TEXT_CALLS and called != "os.open":
            binary = any(isinstance(arg, ast.Constant) and "b" in str(arg.value) for arg in node.args)
            assert binary or "encoding" in keywords, ast.unparse(node)
        if called == "print":
            (value,) = node.args
            assert ast.unparse(value).startswith(("json.dumps(", "yaml.safe_dump_all(")), ast.unparse(node)


# --- tried with such input, where nothing but ASCII is promised


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
"""Python then takes ASCII for its streams and for files, as 3.6 does with LC_ALL=C."""


def run(
    folder: Path, program: str, *arguments: str, feed: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """A program as a host runs it, with our own folder for other programs."""
    (folder / "bin").mkdir(exist_ok=True)
    environment = {**PLAIN, "PATH": f"{folder / 'bin'}:{PLAIN['PATH']}", **(env or {})}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, input=feed.encode(), env=environment, capture_output=True, timeout=60, check=False)


def fake(folder: Path, name: str, script: str) -> None:
    """A program of this name."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "bin" / name).chmod(0o755)


def test_streams_are_ascii_in_this_environment(tmp_path: Path) -> None:
    """What follows is tried where a print of such a text fails."""
    done = run(tmp_path, f"print({ODD!a})")
    assert done.returncode == 1 and b"UnicodeEncodeError" in done.stderr


def test_manifests_are_read_and_written(tmp_path: Path) -> None:
    """What kustomize renders has characters of all kinds, in comments and values."""
    rendered = f"# {ODD}\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{text: '{ODD}'}}\n---\nkind: Namespace\n"
    done = run(tmp_path, manifests.TRIM, feed=rendered)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["data"]["text"] == ODD
    (tmp_path / "more.yaml").write_text(rendered, encoding="utf-8")
    both = run(tmp_path, manifests.TRIM, str(tmp_path / "more.yaml"), feed=rendered)
    assert both.returncode == 0 and both.stdout == done.stdout * 2
    done = run(tmp_path, remove.WITHOUT_NAMESPACE, feed=rendered)
    assert done.returncode == 0, done.stderr
    assert [item for item in yaml.safe_load_all(done.stdout) if item] == [
        {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"text": ODD}}
    ]


def test_an_edit_of_a_pod(tmp_path: Path) -> None:
    """Objects and values with such characters come and go unchanged; kubectl's words are shown."""
    stored = tmp_path / "object"
    stored.write_text(json.dumps({"data": {"slurm.conf": f"# {ODD}\n"}, "metadata": {}}, ensure_ascii=False))
    fake(tmp_path, "kubectl", f'case "$*" in *get*) cat {stored} ;; *replace*) cat >{stored} ;; esac')
    edits = [{"object": "configmap/a", "at": ["data", "slurm.conf"], "seen": f"# {ODD}\n", "value": f"{ODD}\n"}]
    (tmp_path / "edits").write_text(json.dumps(edits, ensure_ascii=False))
    done = run(tmp_path, render.read("pod/pod_edit.py"), str(tmp_path / "edits"), "user", "kubectl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(stored.read_text())["data"]["slurm.conf"] == f"{ODD}\n"
    fake(tmp_path, "kubectl", f"echo '{ODD}' >&2; exit 1")
    done = run(tmp_path, render.read("pod/pod_edit.py"), str(tmp_path / "edits"), "user", "kubectl")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (1, f"{ODD}\n", b"")


@pytest.mark.parametrize("answer", ["", "exit 1"])
def test_the_last_look(tmp_path: Path, answer: str) -> None:
    """Objects with such characters are listed, saved in a file, and put back; kubectl's words are shown."""
    crd = {
        "metadata": {"name": f"storages.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": {"plural": "storages", "kind": "Storage"},
            "versions": [{"name": "v1alpha2", "served": True, "storage": True}],
        },
    }
    storage = {
        "apiVersion": f"{names.GROUP}/v1alpha2",
        "kind": "Storage",
        "metadata": {"name": "rabbit", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        "spec": {"note": ODD},
    }
    for name, items in (("crds", [crd]), ("storages", [storage])):
        (tmp_path / name).write_text(json.dumps({"items": items}, ensure_ascii=False))
    fail = f"echo '{ODD}' >&2; {answer}" if answer else ":"
    fake(
        tmp_path,
        "kubectl",
        f"""{fail}
case "$*" in
*customresourcedefinitions*) cat {tmp_path}/crds ;;
*storages*) cat {tmp_path}/storages ;;
*) echo '{ODD}' >&2; exit 1 ;;
esac""",
    )
    saved = tmp_path / "saved"
    storage_file = {"apiVersion": "v1", "kind": "List", "items": [storage]}
    saved.write_text(json.dumps(storage_file, ensure_ascii=False), encoding="utf-8")
    done = run(tmp_path, PROGRAMS["stages/dws/remove"], "back", str(saved))
    if answer:
        assert done.returncode == 1 and done.stderr == b""
        assert ODD in done.stdout.decode()
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert not saved.exists()


def test_what_objects_own(tmp_path: Path) -> None:
    """A kubectl that does not start is reported with its own words."""
    fake(tmp_path, "kubectl", f"echo '{ODD}' >&2; exit 1")
    done = run(tmp_path, PROGRAMS["stages/dws/dependents"])
    assert done.returncode == 1 and b"Traceback" not in done.stderr and b"kubectl proxy does not start" in done.stderr


def test_the_registrys_answers(tmp_path: Path) -> None:
    """A Secret, podman and a folder with such characters: what is wrong is said, and nothing is raised."""
    fake(tmp_path, "kubectl", """echo '{"data": {"username": "YQ==", "password": "w7w="}}'""")
    fake(tmp_path, "podman", f"echo '{ODD}' >&2; exit 1")
    arguments = ["registry.local", "nexus/a", "", "check"]
    home = tmp_path / ODD
    home.mkdir()
    done = run(tmp_path, render.read("master/registry.py"), *arguments, env={"HOME": str(home)})
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == {"tls": "verified", "problem": "podman", "text": ODD}
    done = run(
        tmp_path, render.read("master/registry.py"), "registry.local", "nexus/a", "", "images", "registry.local/a:1"
    )
    assert done.stdout.decode() == f"image registry.local/a:1 unreadable\nproblem registry.local/a:1 {ODD}\n"
