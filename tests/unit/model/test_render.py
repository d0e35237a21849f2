"""Scripts made from templates."""

from pathlib import Path

import pytest

from dws_on_csm.model import render


def test_a_template_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that is updated during a run does not give it a template that does not fit those it has used already."""
    monkeypatch.setattr(render, "TEMPLATES", tmp_path)
    template = tmp_path / "only_in_this_test.sh"
    template.write_text("former\n")
    assert render.script(template.name, host="one two") == "host='one two'\nformer\n"
    template.write_text("new\n")
    assert render.script(template.name) == "former\n"
