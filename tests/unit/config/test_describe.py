"""The schema's words and defaults by key, also in lists and behind references."""

from __future__ import annotations

import pytest

from dws_on_csm.config.describe import default, description, parts


def test_parts() -> None:
    """An index is a number."""
    assert parts("controllers[0].pod.name") == ("controllers", 0, "pod", "name")


@pytest.mark.parametrize(
    ("key", "words", "value"),
    [
        ("master.user", "overrides ssh.user", None),
        ("versions.dws", "The version of DWS.", "0.0.20"),
        ("controllers[3].pod.namespace", "the pod's namespace", "user"),
        ("computes[1].hosts", "a node set", None),
        (
            "computes.slurm_conf",
            "check: must equal the controllers'; edit: is replaced by theirs; print: only compared",
            "check",
        ),
        ("sources.dws", "Repositories of DWS.", ["https://github.com/DataWorkflowServices/dws.git"]),
    ],
)
def test_keys(key: str, words: str, value: object) -> None:
    """What editors show is what a generated file says."""
    assert (description(key), default(key)) == (words, value)


def test_a_key_that_no_site_file_has() -> None:
    """A mistake in a key is none that a file could have."""
    with pytest.raises(KeyError):
        description("master.hots")
