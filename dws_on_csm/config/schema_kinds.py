"""Kinds of YAML nodes as JSON schema has them: which of them a rule lets pass, with which values, and what people call them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

Rule = Mapping[str, Any]
"""A part of a schema."""

TAG = "tag:yaml.org,2002:"
"""What the tags of YAML's own kinds begin with."""

_KINDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "null": "null"}

WORDS = {
    "object": "keys with values",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
"""What people call the kinds of JSON schema."""


def kind_of(node: yaml.Node) -> str:
    """What JSON schema calls it; a YAML tag where it has no name for it (`timestamp`, `!mine`)."""
    if isinstance(node, yaml.ScalarNode):
        tag = str(node.tag).removeprefix(TAG)
        return _KINDS.get(tag, tag)
    return "object" if isinstance(node, yaml.MappingNode) else "array"


def kinds_of(rule: Rule) -> list[str]:
    """The kinds of node that a rule lets pass."""
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    return [*kinds, "integer"] if "number" in kinds else kinds


def holds(value: Any, rule: Rule) -> bool:
    """Whether a scalar of the right kind is one that the rule lets pass."""
    if isinstance(value, str):
        return value in rule.get("enum", [value]) and bool(re.fullmatch(rule.get("pattern", "(?s:.*)"), value))
    low, over, high = (rule.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    # Asked this way round, since nothing that is asked of a NaN is true.
    return all((low is None or value >= low, over is None or value > over, high is None or value <= high))


def shown(node: yaml.Node) -> str:
    """A wrong value for the screen: short, and without the password that may be what is wrong with it."""
    if not isinstance(node, yaml.ScalarNode):
        return WORDS[kind_of(node)]
    text = "" if kind_of(node) == "null" else re.sub(r"//.*@", "//***@", str(node.value))
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False) if text else "nothing"
