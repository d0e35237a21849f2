"""A stage is found by its name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from dws_on_csm import stages
from dws_on_csm.stages import install, verify_cancel
from dws_on_csm.stages.dws import open_dws

FOLDER = Path(stages.__file__).parent


def test_a_stage_lies_in_a_file_of_its_name() -> None:
    """Its name is that of its file, a word of it, or that of the package whose stage.py has it."""
    found = {}
    for file in sorted(FOLDER.rglob("*.py")):
        if re.search(r"^STAGE = Stage\(", file.read_text(), re.MULTILINE):
            module = import_module(".".join(("dws_on_csm.stages", *file.relative_to(FOLDER).with_suffix("").parts)))
            found[module.STAGE.name] = file.relative_to(FOLDER)
    every = {stage.name for stage in (*install.STAGES, verify_cancel.STAGE, open_dws.STAGE)}
    assert every | {"namespace"} == found.keys()
    for name, file in found.items():
        own = file.parent.name if file.stem == "stage" else file.stem
        assert name == own or name in own.split("_"), (name, file)
        assert name == file.parent.name or file.stem != "stage"
