"""A YAML tree against a JSON schema: its values with the schema's defaults, and everything that is wrong, with places.

The schema that editors complete from is the one that is obeyed here, so that keys, defaults and patterns exist once.
What is known here of JSON schema is in KEYWORDS; patterns match whole texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from dws_on_csm.config.nodeset import expand, near
from dws_on_csm.config.schema_kinds import TAG, WORDS, Rule, holds, kind_of, kinds_of, shown

KEYWORDS = frozenset(
    {"$schema", "$ref", "$defs", "title", "description", "default", "type", "oneOf", "enum", "pattern", "format"}
    | {"properties", "required", "additionalProperties", "items", "minItems", "minimum", "maximum", "exclusiveMinimum"}
)
"""What a schema may use."""


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong with a key (`controllers[0].host`, "" for the file); line and column from 1, or 0 for nowhere."""

    line: int
    column: int
    key: str
    text: str


def member(key: str, name: str) -> str:
    """The key `name` of the mapping `key`: `master.host`."""
    return f"{key}.{name}" if key else name


class Walk:
    """One way through a YAML tree hand in hand with a schema.

    problems    what was found to be wrong
    places      key -> (line, column) of every value that was seen
    """

    def __init__(self, root: Rule) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.places: dict[str, tuple[int, int]] = {}

    def value(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        """The node's value with defaults for what it lacks; None, and a problem, where it isn't as the rule says."""
        self.places[key] = (node.start_mark.line + 1, node.start_mark.column + 1)
        rule = self._resolved(rule)
        for branch in self._branches(rule):
            if kind_of(node) in kinds_of(branch):
                return self._typed(node, branch, key)
        return self._wrong(node, key, self._mismatch(node, rule))

    def defaults(self, rule: Rule) -> Any:
        """What holds where the file says nothing: the default; for a section the defaults of its keys; None."""
        rule = self._resolved(rule)
        if "default" in rule or "null" not in kinds_of(rule):
            return rule.get("default")
        return {name: self.defaults(part) for name, part in rule["properties"].items()}

    def _resolved(self, rule: Rule) -> Rule:
        name = rule.get("$ref", "").rpartition("/")[2]
        return {**self.root["$defs"][name], **rule} if name else rule

    def _branches(self, rule: Rule) -> list[Rule]:
        """The rules one of which is to hold: at most one for each kind of node."""
        title = {"title": rule["title"]} if "title" in rule else {}
        return [{**title, **self._resolved(part)} for part in rule.get("oneOf", [rule])]

    def _wrong(self, node: yaml.Node, key: str, text: str) -> Any:
        self.problems.append(Problem(node.start_mark.line + 1, node.start_mark.column + 1, key, text))

    def _typed(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, rule, key)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, rule, key)
        if kind_of(node) != "null":
            return self._scalar(node, rule, key)
        # a section with nothing in it is there, whatever holds where it is left out
        return self.defaults({name: rule[name] for name in rule if name != "default" or "properties" not in rule})

    def _mapping(self, node: yaml.MappingNode, rule: Rule, key: str) -> dict[str, Any]:
        pairs, parts = self._pairs(node, key, ()), rule["properties"]
        for name in pairs.keys() - parts.keys():
            self._wrong(pairs[name][0], member(key, name), f"no such key{self._meant(name, parts)}")
        for name in set(rule.get("required", ())) - pairs.keys():
            self._wrong(node, member(key, name), f"missing: {self._expected(parts[name])}")
        return {
            name: self.value(pairs[name][1], part, member(key, name)) if name in pairs else self.defaults(part)
            for name, part in parts.items()
        }

    def _pairs(
        self, node: yaml.MappingNode, key: str, above: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Name -> (the key's node, the value's), what `<<` brings in included; a key that stands twice is a problem."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name, value in node.value:
            if name.tag == TAG + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = self._merged(part, key, (*above, node)) | merged
            elif not isinstance(name, yaml.ScalarNode):
                self._wrong(name, key, "a key is a single word")
            elif name.value in own:
                line = own[name.value][0].start_mark.line + 1
                self._wrong(name, member(key, name.value), f"stands twice: it is in line {line} already")
            else:
                own[name.value] = (name, value)
        return merged | own

    def _merged(
        self, node: yaml.Node, key: str, above: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if isinstance(node, yaml.MappingNode) and node not in above:
            return self._pairs(node, key, above)
        self._wrong(node, member(key, "<<"), "expected an alias of other keys with values")
        return {}

    def _list(self, node: yaml.SequenceNode, rule: Rule, key: str) -> Any:
        if len(node.value) < rule.get("minItems", 0):
            return self._wrong(node, key, "an empty list: at least one item is needed")
        return [self.value(item, rule["items"], f"{key}[{i}]") for i, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        try:
            value = yaml.SafeLoader("").construct_object(node)
            if not holds(value, rule):
                return self._wrong(node, key, self._mismatch(node, rule))
            if rule.get("format") == "nodeset":
                expand(value)
        except ValueError as error:
            return self._wrong(node, key, f"expected {self._expected(rule)}, not {shown(node)}: {error}")
        return value

    def _mismatch(self, node: yaml.Node, rule: Rule) -> str:
        """What was expected instead of the node; where quotes would do, that they would."""
        patterns = [part.get("pattern", ".*") for part in self._branches(rule) if "string" in kinds_of(part)]
        plain = isinstance(node, yaml.ScalarNode) and kind_of(node) not in ("string", "null")
        if plain and any(re.fullmatch(pattern, node.value) for pattern in patterns):
            what = WORDS.get(kind_of(node), f"a {kind_of(node)}")
            return f'expected a text, and in YAML {node.value} is {what}: quote it, "{node.value}"'
        return f"expected {self._expected(rule)}, not {shown(node)}"

    def _expected(self, rule: Rule) -> str:
        """In words, what a value must be."""
        rule = self._resolved(rule)
        if "title" in rule:
            return str(rule["title"])
        if "enum" in rule:
            return ", ".join(rule["enum"][:-1]) + " or " + str(rule["enum"][-1])
        word, high = WORDS[kinds_of(rule)[0]], rule.get("maximum")
        if "exclusiveMinimum" in rule:
            return f"{word} over {rule['exclusiveMinimum']}, at most {high}"
        return f"{word} from {rule['minimum']} to {high}" if high is not None else word

    def _meant(self, name: str, parts: Rule) -> str:
        """For an unknown key: a known one that looks like it, and the places that do have this one."""
        sections = self.root["properties"]
        homes = [home for home, rule in sections.items() if name in rule.get("properties", ())]
        own = f"; {name} is a section of its own, at the left margin" if name in sections else ""
        return near(name, parts) + own + (f"; {' and '.join(homes)} can have it" if homes else "")
