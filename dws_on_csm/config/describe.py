"""What the schema says about a key of the site file: the words of generated site files are those of the schema."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from dws_on_csm.config.load import SCHEMA

Rule = dict[str, Any]


def parts(key: str) -> tuple[str | int, ...]:
    """The parts of a key: "controllers[0].pod.name" -> ("controllers", 0, "pod", "name")."""
    return tuple(int(word) if word.isdigit() else word for word in re.findall(r"[^.\[\]]+", key))


def description(key: str) -> str:
    """What a key is for, in the schema's words; "" where it has none. KeyError for a key that no site file has."""
    return str(_rule(key).get("description", ""))


def default(key: str) -> Any:
    """The value of a key that a site file lacks; None where that is no single value. KeyError as for `description`."""
    return _rule(key).get("default")


def _rule(key: str) -> Rule:
    rule = _resolved(_schema())
    for part in parts(key):
        rule = _resolved(_list_items(rule) if isinstance(part, int) else _with_keys(rule)["properties"][part])
    return rule


def _list_items(rule: Rule) -> Rule:
    return next((branch["items"] for branch in rule.get("oneOf", [rule]) if "items" in branch), rule)


def _with_keys(rule: Rule) -> Rule:
    branches = [_resolved(branch) for branch in rule.get("oneOf", [rule])]
    return next((branch for branch in branches if "properties" in branch), {"properties": {}})


def _resolved(rule: Rule) -> Rule:
    name = rule.get("$ref", "").rpartition("/")[2]
    return {**_schema()["$defs"][name], **rule} if name else rule


@cache
def _schema() -> Rule:
    schema: Rule = json.loads(SCHEMA.read_text())
    return schema
