"""The documented example, its schema and the loader agree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.schema import KEYWORDS
from dws_on_csm.config.site import Access, Deadlines, Site, Slurm, Sources, Ssh, TestJob, Versions
from tests.unit.site_files import HOSTS, JUDGE, MINIMAL, RULES, said, write


def parts(rule: dict[str, Any], key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule of the schema with its key: `master.host`, `controllers[0].host`."""
    rule = {**RULES["$defs"][rule["$ref"].rpartition("/")[2]], **rule} if "$ref" in rule else rule
    yield key, rule
    for name, part in rule.get("properties", {}).items():
        yield from parts(part, f"{key}.{name}" if key else name)
    if isinstance(rule.get("items"), dict):
        yield from parts(rule["items"], f"{key}[0]")
    if "oneOf" in rule and "items" in rule["oneOf"][-1]:
        yield from parts(rule["oneOf"][-1]["items"], f"{key}[0]")


def keywords(part: Any, names: bool = False) -> Iterator[str]:
    """All keywords that the schema uses; `names`: the keys of this part are names that it defines."""
    if isinstance(part, list):
        for item in part:
            yield from keywords(item)
    if isinstance(part, dict):
        for name, value in part.items():
            yield from [] if names else [name]
            if name != "default" or names:
                yield from keywords(value, names=not names and name in ("properties", "$defs"))


def test_the_loader_obeys_the_whole_schema() -> None:
    """It is a valid schema, and has no keyword that the loader would ignore."""
    Draft202012Validator.check_schema(RULES)
    assert set(keywords(RULES)) <= KEYWORDS
    everything = dict(parts(RULES))
    assert all(rule["additionalProperties"] is False for rule in everything.values() if "properties" in rule)
    assert [key for key, rule in everything.items() if "description" not in rule and not key.endswith("[0]")] == []


@pytest.mark.parametrize(
    ("section", "part"),
    [
        *[("versions", Versions), ("access", Access), ("slurm", Slurm), ("test_job", TestJob)],
        *[("deadlines", Deadlines), ("sources", Sources), ("ssh", Ssh), ("", Site)],
    ],
)
def test_the_schema_and_the_site_have_the_same_parts(section: str, part: type[Any]) -> None:
    """The keys of a section are the fields of its dataclass."""
    rule = RULES["properties"][section] if section else RULES
    own = {
        "": {"path", "limit", "bundle", "deletes", "controller_groups", "absent"},
        "versions": {"commits"},
        "access": {"signed_via"},
    }.get(section, set())
    assert {field.name for field in fields(part)} - own == set(rule["properties"])


DEFAULTS = [(key, rule["default"]) for key, rule in parts(RULES) if rule.get("default") is not None]


POD = "controllers[0].pod."


def minimal(key: str) -> str:
    """The smallest site with the section of the key."""
    if key.startswith(POD):
        return "master: {host: m}\ncontrollers: [{pod: {}}]\n"
    return MINIMAL + ("computes: [{hosts: n}]\n" if key.startswith("computes") else "")


def with_value(key: str, value: Any) -> str:
    """A file of two hosts (and a node where the key needs one) in which the key has this value."""
    content: Any = json.loads(json.dumps(HOSTS))
    if key.startswith("computes"):
        content["computes"] = [{"hosts": "n"}]
    if key.startswith(POD[:-1]):
        content["controllers"] = [{"pod": {}}]
    here, names = content, re.findall(r"[a-z_0-9]+", key)
    for name in names[:-1]:
        here = here[0] if name == "0" else here.setdefault(name, {})
    here[names[-1]] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize(("key", "value"), DEFAULTS, ids=[key for key, _ in DEFAULTS])
def test_what_the_schema_calls_a_default_is_what_holds(tmp_path: Path, key: str, value: Any) -> None:
    """Writing a default into the file changes nothing, and an editor accepts it."""
    text = with_value(key, value)
    assert JUDGE.is_valid(yaml.safe_load(text))
    assert load(write(tmp_path, text)) == load(write(tmp_path, minimal(key)))


OTHERS: dict[str, Any] = {
    "master.host": ["one", "other"],
    "dws": "external",
    "master.path": "/bin",
    "master.proxies.https": "http://proxy:3128",
    "master.proxies.no_proxy": ["mirror.example"],
    "computes[0].slurm_conf": "edit",
    "ssh.config": "/etc/passwd",
    "ssh.transport": "openssh",
    "registry.secret": "a/b",
    "registry.token_hosts": ["login.example:8443"],
    "controllers[0].pod.selector": "app.kubernetes.io/name=slurmctld",
    "controllers[0].pod.templates": "ops/templates",
    "controllers[0].pod.job": "ops/render",
    "controllers[0].pod.kubectl": "hostPath",
    "access.server": "https://a:1",
    "access.via": "csr",
    "versions.dws": {"tag": "0.0.20", "commit": "ab" * 20},
    "plugin.workflow_version": "plugin",
    "versions.plugin": {"tag": "0.0.5", "commit": "AB" * 20},
    "accept": ["clock-skew"],
}
"""Valid values other than the default, for keys whose type does not suffice to make one."""


def other(key: str, rule: dict[str, Any]) -> Any:
    """A valid value for the key that is not its default."""
    kinds = {"integer": 77, "number": 77, "boolean": True, "array": ["o.example/x"], "string": "other"}
    path = "/other" if "absolute path" in rule.get("title", "") else None
    return OTHERS.get(key) or path or kinds[rule.get("type", "integer")]


NO_VALUES = r".*\]|computes|controllers|sources\.kustomize\..*"
"""Keys without a value of their own, and the two keys of kustomize, which need each other."""
LEAVES = [
    (key, other(key, rule))
    for key, rule in parts(RULES)
    if "properties" not in rule and not re.fullmatch(NO_VALUES, key)
]


@pytest.mark.parametrize(("key", "value"), LEAVES, ids=[key for key, _ in LEAVES])
def test_no_key_is_read_and_forgotten(tmp_path: Path, key: str, value: Any) -> None:
    """Another value for a key makes another site."""
    assert load(write(tmp_path, with_value(key, value))) != load(write(tmp_path, minimal(key)))


LINE = re.compile(r"^(?P<lead> *)(?P<off># )?(?P<more> *)(?P<item>- )?(?P<name>[a-z_0-9]+):(?= |$)(?P<rest>.*)$")
EXAMPLE = DEFAULT.read_text().splitlines()


def example() -> Iterator[tuple[int, str, re.Match[str], tuple[int, ...]]]:
    """(index, key, line, indices of the commented-out lines above that it belongs to) for every key of the example."""
    above: list[tuple[int, str, int, bool]] = []
    for index, line in enumerate(EXAMPLE):
        found = LINE.match(line)
        if not found:
            continue
        depth = len(found["lead"] + found["more"]) + len(found["item"] or "")
        above = [part for part in above if part[0] < depth]
        parent = above[-1][1] if above else ""
        parent += "[0]" if parent in ("controllers", "computes") else ""
        key = f"{parent}.{found['name']}" if parent else found["name"]
        yield index, key, found, tuple(part[2] for part in above if part[3])
        above.append((depth, key, index, bool(found["off"])))


def uncommented(*indices: int) -> str:
    lines = list(EXAMPLE)
    if POD_LINE in indices and len(indices) < 10:  # a controller is a host or a pod
        lines[KEYS["controllers[0].host"][0]] = "  -"
    for index in indices:
        lines[index] = re.sub(r"^( *)# ", r"\1", lines[index], count=1)
    return "\n".join(lines) + "\n"


KEYS = {key: (index, found, above) for index, key, found, above in example()}
OFF = {key: (index, above) for key, (index, found, above) in KEYS.items() if found["off"]}
NODES = KEYS["computes[0].hosts"][0], KEYS["computes"][0]
POD_LINE = KEYS[POD[:-1]][0]


def test_the_example_names_every_key_that_there_is_in_the_schemas_order() -> None:
    """The keys of the documented example are those of the schema."""
    known = [key for key, _ in parts(RULES) if key and not key.endswith("[0]")]
    assert list(KEYS) == known


def test_the_example_is_valid_with_and_without_its_commented_lines() -> None:
    """An editor accepts the example, also with all its lines uncommented."""
    everything = uncommented(*(index for index, _ in OFF.values()))
    for text in (DEFAULT.read_text(), everything):
        assert list(JUDGE.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in OFF if key not in ("computes", "computes[0].hosts")])
def test_a_commented_line_of_the_example_says_what_holds_without_it(tmp_path: Path, key: str) -> None:
    """Uncommenting a line changes nothing, except for the nodes, which are an example."""
    index, above = OFF[key]
    if key == POD[:-1]:
        assert (
            load(write(tmp_path, uncommented(index))).controllers[0].pod
            == load(write(tmp_path, minimal(POD))).controllers[0].pod
        )
        return
    beside = NODES if key.startswith("computes") else (POD_LINE,) if key.startswith(POD[:-1]) else ()
    site = load(write(tmp_path, uncommented(index, *above, *beside)))
    assert site == load(write(tmp_path, uncommented(*beside)))


def test_the_examples_nodes_are_nodes(tmp_path: Path) -> None:
    """The only commented part that is not a default is a thousand nodes to check."""
    site = load(write(tmp_path, uncommented(*NODES)))
    assert (len(site.hosts("compute")), site.computes[0].slurm_conf) == (1000, "check")


@pytest.mark.parametrize("key", [key for key, (_, found, _) in KEYS.items() if not found["off"] and "." in key])
def test_a_line_of_the_example_that_is_in_force_is_needed_or_the_default(tmp_path: Path, key: str) -> None:
    """Without it the file is wrong, or means the same; only ssh.user differs, as its comment says."""
    index = KEYS[key][0]
    text = "\n".join("" if i == index else line for i, line in enumerate(EXAMPLE))
    if key.endswith(".host"):
        assert any(f"{key.split('[')[0].split('.')[0]}" in line for line in said(tmp_path, text))
    elif key == "ssh.user":
        assert load(write(tmp_path, text)).ssh.user == ""
    else:
        assert load(write(tmp_path, text)) == load(write(tmp_path, DEFAULT.read_text()))


def test_the_schema_describes_a_key_with_the_words_of_the_example() -> None:
    """A comment beside a key is its description in editors."""
    described = {key: rule["description"] for key, rule in parts(RULES) if "description" in rule}
    for key, (_, found, _) in KEYS.items():
        comment = found["rest"].rpartition("  # ")[2] if "  # " in found["rest"] else ""
        assert not comment or described[key] == comment.strip()
