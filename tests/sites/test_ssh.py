"""The tool gets in wherever OpenSSH's own client does; where neither does, the tool names the cause."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.sites.conftest import ROW
from tests.sites.form import Form, Result
from tests.sites.ssh_forms import FORMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first of them tries all forms

WORDS = {True: "in", False: "no"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_tool_does_what_ssh_does(
    results: dict[str, Result], form: Form, record_property: Callable[[str, object], None]
) -> None:
    """The tool gets in where ssh does, with no more signatures; elsewhere its message names the cause, and it has a fix."""
    result = results[form.name]
    record_property(ROW, (form.name, WORDS[result.ssh], WORDS[result.tool], result.cause))
    assert result.ssh == (not form.cause), result.ssh_words
    assert "Traceback" not in result.stderr
    if form.cause or form.apart:
        assert not result.tool
        assert re.search(form.cause or form.apart, result.cause, re.DOTALL), result.cause
        assert result.fix
    else:
        assert result.tool, f"{result.cause} {result.stderr}"
        assert result.tool_signatures <= result.ssh_signatures
