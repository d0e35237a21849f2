"""What a difference shows, and what it never shows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Value
from dws_on_csm.redaction.diff import LONGEST, MOST, difference
from tests.unit.growth import assert_no_square

LONG = "".join(f"Line{i}=x\n" for i in range(1, 31))


@pytest.mark.parametrize(
    ("have", "want", "lines"),
    [
        pytest.param({"a": 1}, {"a": 1}, (), id="equal"),
        pytest.param(None, "x", ("+ x",), id="nothing was there"),
        pytest.param({"mode": "0644"}, {"mode": "0600"}, ("- mode: 0644", "+ mode: 0600"), id="scalar"),
        pytest.param({"a": {"b": True}}, {"a": {"b": False}}, ("- a.b: true", "+ a.b: false"), id="nested"),
        pytest.param(None, {"a": {"b": 1}}, ("+ a.b: 1",), id="a dict where nothing was"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, ("- b: 2",), id="a key too many"),
        pytest.param({"a": 1}, None, ("- a: 1",), id="nothing is wanted"),
        pytest.param({"a": None}, {"a": 1}, ("+ a: 1",), id="None beside a value"),
        pytest.param({"a": None}, {}, ("- a: (none)",), id="a key without value too many"),
        pytest.param({}, {"a": {}}, ("+ a: {}",), id="an empty dict"),
        pytest.param({"u": ["b", "a"]}, {"u": ["a", "c"]}, ("- u: b", "+ u: c"), id="lists are sets"),
        pytest.param([1, 1], [1], ("- 1",), id="once too often"),
        pytest.param([1, 2], [2, 1], ("- [1, 2]", "+ [2, 1]"), id="only the order differs"),
        pytest.param(1, "1", ("- 1 (int)", "+ 1 (str)"), id="only the type differs"),
        pytest.param({"a": ""}, {"a": " x"}, ('- a: ""', '+ a: " x"'), id="blanks can be seen"),
        pytest.param(
            {"c": [{"name": "m", "image": "a"}]},
            {"c": [{"name": "w"}, {"name": "m", "image": "b"}]},
            ("- c[m].image: a", "+ c[m].image: b", "+ c[w].name: w"),
            id="named items",
        ),
        pytest.param({"f": "a\nb\n"}, {"f": "a\nc\n"}, ("@ f", "  a", "- b", "+ c"), id="text"),
        pytest.param({"f": None}, {"f": "a\nb\n"}, ("@ f", "+ a", "+ b"), id="a new text"),
        pytest.param({"f": 3}, {"f": "a\nb\n"}, ("- f: 3", "@ f", "+ a", "+ b"), id="text in place of a number"),
        pytest.param("a", "a\n", ("@", "- a (no newline at the end)", "+ a"), id="the last newline"),
        pytest.param("a\r\nb\n", "a\nb\n", ("@", "- a\\r", "+ a", "  b"), id="line ends"),
        pytest.param("a\tb\n", "a b\n", ("@", "- a\tb", "+ a b"), id="tabs stay"),
    ],
)
def test_lines(have: Value, want: Value, lines: tuple[str, ...]) -> None:
    """A difference says in few lines what changes from the found to the wanted state."""
    assert difference(have, want) == lines


def test_context() -> None:
    """A change in a long text comes with three lines on either side and the line where they begin."""
    lines = difference({"slurm.conf": LONG}, {"slurm.conf": LONG.replace("Line15=x", "Line15=y")})
    assert lines[0] == "@ slurm.conf, line 12"
    assert lines[1:] == (
        *(f"  Line{i}=x" for i in (12, 13, 14)),
        "- Line15=x",
        "+ Line15=y",
        *(f"  Line{i}=x" for i in (16, 17, 18)),
    )


@pytest.mark.parametrize(
    ("have", "want"),
    [
        (None, Secret(b"hunter2")),
        (Secret(b"hunter1"), Secret(b"hunter2")),
        ({"k": Secret(b"hunter2")}, {"k": None}),
        ({"k": [Secret(b"hunter2")]}, {"k": []}),
        ({"k": [{"s": Secret(b"hunter2")}]}, {"k": "a\nb"}),
        ({"k": "a\nb"}, {"k": {"s": [Secret(b"hunter2")]}}),
    ],
)
def test_secrets(have: Value, want: Value) -> None:
    """A secret that differs is named, and never shown."""
    lines = difference(have, want)
    assert any("(secret" in line for line in lines)
    assert "hunter" not in "".join(lines)


def test_changed_secret() -> None:
    """A secret that replaces another is shown as a change."""
    assert difference({"key": Secret(b"a")}, {"key": Secret(b"b")}) == ("+ key: (secret, changed)",)


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b31m", "a\x07b", "\u202egnp", "\u2028", "\x00", "a\rb"])
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {s: s}, lambda s: [s], lambda s: f"x\n{s}\n", lambda s: {"a": [{s: s}]}]
)
def test_control_characters(evil: str, wrap: object) -> None:
    """No content of a host's file can control the terminal that shows it."""
    assert callable(wrap)
    shown = "".join(difference("before", wrap(evil)))
    assert shown.isprintable()
    assert "\\" in shown


@pytest.mark.parametrize(
    ("have", "want"), [("\\x1b\n", "\x1b\n"), ((1,), [1]), ("a (no newline at the end)\n", "a\n.")]
)
def test_never_empty(have: Value, want: Value) -> None:
    """Values that differ always show a difference, even where they look the same."""
    assert difference(have, want)


def test_no_secret_is_in_the_lines_around_what_differs() -> None:
    """A password next to a changed line, or in it, is redacted; the difference is still visible."""
    have = "StoragePass=hunter2\nSlurmctldPort=1\nToken: abcdefghij\n"
    lines = difference({"text": have}, {"text": have.replace("Port=1", "Port=2")})
    told = "\n".join(lines)
    assert "hunter2" not in told and "abcdefghij" not in told
    assert "- SlurmctldPort=1" in lines and "+ SlurmctldPort=2" in lines


@pytest.mark.parametrize("form", ["Pass=\\\n{}", "Pass=\\ # on\n  {}", "Pass*={}", "Pass={}"])
def test_a_secret_that_changes_is_in_no_line(form: str) -> None:
    """Also where the line that names the secret is unchanged, or far from the difference."""
    before, after = (f"A=1\nJobComp{form.format(word)}\nB=1\n" for word in ("s3cr3t-old", "s3cr3t-new"))
    lines = difference(before, after)
    assert lines and "s3cr3t" not in " ".join(lines)
    assert "s3cr3t" not in " ".join(difference(None, after))
    assert "- B=1" in difference(before, after.replace("B=1", "B=2"))


def test_a_secret_of_an_object_is_not_shown() -> None:
    """Objects of the cluster are compared as JSON: a variable with a password, or a key in a ConfigMap, is not shown."""
    what = "PRIVATE KEY"
    key = f"-----BEGIN {what}-----\nMIIBabcdef\n-----END {what}-----\n"
    one = {"env": [{"name": "A", "value": "1"}], "data": {"tls.key": key, "password": "hunter2"}}
    other = {**one, "env": [{"name": "A", "value": "2"}]}
    told = "\n".join(difference(*({"objects": json.dumps(each, indent=1) + "\n"} for each in (one, other))))
    assert "MIIBabcdef" not in told and "hunter2" not in told and '"2"' in told


@pytest.mark.parametrize(
    ("before", "piece", "after", "change"),
    [
        pytest.param("", "#\n", "", lambda text: text + "A=1\n", id="one line more at the end"),
        pytest.param("A=1\n", "#\n", "B=1\n", lambda text: text.replace("=1", "=2"), id="both ends changed"),
        pytest.param("A=1\n", "}\n{\n", "B=1\n", lambda text: text.replace("=1", "=2"), id="two lines in turn"),
        pytest.param("", "A=1\n#\n", "", lambda text: text.replace("=1", "=2"), id="every other line changed"),
    ],
)
def test_the_time_grows_with_the_length_and_no_faster(
    before: str, piece: str, after: str, change: Callable[[str], str]
) -> None:
    """The time for a text is linear in its lines, also where many lines are alike."""

    def work(size: int) -> object:
        have = before + (piece * size)[:size] + after
        return difference(have, change(have))

    assert_no_square(work, 1_200)


def test_very_large_differences_are_counted() -> None:
    """Of thousands of different lines only the number and the beginning are shown: a comparison would take long."""
    have, want = ("".join(f"{sign}{i}\n" for i in range(MOST + more)) for sign, more in (("a", 1), ("b", 0)))
    assert difference(f"X=1\n{have}Y=1\n", f"X=1\n{want}Y=1\n") == (
        "@ line 2",
        f"- ({MOST + 1} lines, not shown)",
        f"+ ({MOST} lines, not shown)",
    )
    assert difference(None, have) == ("@", f"+ ({MOST + 1} lines, not shown)")
    assert difference("", "x" * (LONGEST + 1) + "\n") == ("@", "+ (1 line, not shown)")
    assert len(difference(None, want)) == MOST + 1


def test_one_change_in_a_very_long_text_is_shown() -> None:
    """Equal lines before and after the difference do not count for the limit."""
    text = "#\n" * (3 * MOST)
    assert difference(f"{text}A=1\n{text}", f"{text}A=2\n{text}") == (
        f"@ line {3 * MOST - 2}",
        *["  #"] * 3,
        "- A=1",
        "+ A=2",
        *["  #"] * 3,
    )
