"""What a file says of itself in a comment at its top: that a program manages it, and will overwrite what others write there."""

from __future__ import annotations

import re

_TOP = 40
"""Lines from the beginning in which such a comment stands."""
_LONGEST = 300
"""Characters of such a line that count: the search takes the square of them at worst, and others may write the file."""
_PROGRAM = "ansible|puppet|salt|saltstack|chef|cfengine|cfs|rudder|foreman|terraform|confd|xcat|warewulf|configuration management"
_DONE = r"manage[ds]?|management|generated|maintained|deployed|controlled|created|written|overwrit\w+|templated?"
_SAYS = re.compile(
    rf"\b(?:{_PROGRAM})\b.*\b(?:{_DONE})\b|\b(?:{_DONE})\b.*\b(?:{_PROGRAM})\b"
    r"|\bdo(?: not|n't) (?:edit|modify|change)\b|\b(?:local|manual) (?:changes|edits)\b.*\b(?:lost|overwritten)\b",
    re.IGNORECASE,
)


def comment(text: str) -> str:
    """The comment at the top of `text` that says so, without its "#", as in "Ansible managed"; "" where there is none.

    Ansible writes "Ansible managed" (its setting ansible_managed); Puppet, Salt, Chef and CFS write what a site's template has.
    """
    for line in text.split("\n")[:_TOP]:
        line = line[:_LONGEST].strip()
        words = line.lstrip("#").strip()
        if line.startswith("#") and _SAYS.search(words):
            return words[:100]
    return ""
