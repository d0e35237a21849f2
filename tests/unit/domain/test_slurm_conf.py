"""slurm.conf as Slurm reads it, and edits that leave every other byte as it was.

What the tables say of Slurm was seen on slurmctld 24.11.5: each text was put in its slurm.conf, slurmctld restarted,
and `scontrol show config` and its journal read.
"""

import random

import pytest

from dws_on_csm.domain import slurm_conf
from dws_on_csm.domain.slurm_conf import Setting
from dws_on_csm.model.step import Refused
from tests.unit.growth import assert_no_square

KEY = "BurstBufferType"
LUA = "burst_buffer/lua"
SITE = """\
# slurm.conf of the site
ClusterName=Alps   # %c is alps
SlurmctldHost=ctl1
SlurmctldHost=ctl2
SchedulerParameters=bf_interval=30,\\
bf_window=1440
#BurstBufferType=burst_buffer/datawarp
NodeName=DEFAULT CPUs=64 RealMemory=512000
Include nodes.conf
MailProg="/usr/bin/mail # quoted"
"""


def found(text: str, key: str = "MailProg") -> str | None:
    setting = slurm_conf.value(text, key)
    return setting.value if setting else None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("MailProg=/bin/a\n", "/bin/a"),
        ("  mailprog = /bin/a  \n", "/bin/a"),
        ("\tMAILPROG\t=\t/bin/a\n", "/bin/a"),
        ("\x0bMailProg=/bin/a\n", "/bin/a"),
        ("MailProg+=/bin/a\n", "/bin/a"),
        ("MailProg=/bin/a", "/bin/a"),
        ('MailProg="/bin/a b"\n', "/bin/a b"),
        ('MailProg=""\n', ""),
        ("MailProg='/bin/a'\n", "'/bin/a'"),
        ("MailProg=(null)\n", "(null)"),
        ("MailProg=/bin/a\u00a0\n", "/bin/a\u00a0"),
        ("# caf\udce9\nMailProg=/bin/a\n", "/bin/a"),  # a byte that is no UTF-8
        # comments
        ("#MailProg=/bin/a\n", None),
        ("MailProg=/bin/a#b\n", "/bin/a"),
        ("MailProg=/bin/a\\#b\n", "/bin/a#b"),
        ('MailProg="/bin/a#b"\n', '"/bin/a'),
        # continuations
        ("MailProg=/bin/\\\na\n", "/bin/a"),
        ("MailProg=\\\n   /bin/a\n", "/bin/a"),
        ("Mail\\\nProg=/bin/a\n", "/bin/a"),
        ("MailProg=/bin/\\  \na\n", "/bin/a"),
        ("MailProg=/bin/\\ # why\na\n", "/bin/a"),
        ("MailProg=/bin/a \\", "/bin/a"),
        ("# MailProg=/bin/x \\\nMailProg=/bin/a\n", "/bin/a"),
        ("KillWait=7 \\\n# note\nMailProg=/bin/a\n", "/bin/a"),
        ("MailProg=/bin/a\\\\\nKillWait=7\n", "/bin/a\\"),
        # ends of lines
        ("MailProg=/bin/a\r\nKillWait=7\r\n", "/bin/a"),
        ("MailProg=/bin/\\\r\na\r\n", "/bin/a"),
        ("KillWait=7\x85MailProg=/bin/a\n", None),  # one line to Slurm, two to Python
        # set twice: "MailProg 1 specified more than once, latest value used"
        ("MailProg=/bin/a\nmailprog=/bin/b\n", "/bin/b"),
        # other keys
        ("XMailProg=/bin/a\nMailProgX=/bin/a\nMail Prog=/bin/a\n", None),
        ("NodeName=nid1 MailProg=/bin/a\n", None),
        ("MailProg=\n", None),  # "Parse error": slurmctld does not start
    ],
)
def test_a_value_is_what_slurm_takes_it_for(text: str, value: str | None) -> None:
    """In every spelling, a line means what `scontrol show config` shows."""
    assert found(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("include mail.conf\n", "/bin/inc"),
        ("INCLUDE\tmail.conf   # why\n", "/bin/inc"),
        ("Include \\\nmail.conf\n", "/bin/inc"),
        ("Include /etc/slurm/mail.conf\n", "/bin/inc"),
        ("Include sub/mail.conf\n", "/bin/sub"),
        ("Include sub/outer.conf\n", "/bin/inc"),  # relative to slurm.conf's folder, not to the file that includes
        ("ClusterName=Alps\nInclude %c.conf\n", "/bin/alps"),
        ("MailProg=/bin/a\ninclude mail.conf\n", "/bin/inc"),
        ("include mail.conf\nMailProg=/bin/a\n", "/bin/a"),
        ("include mail.conf\nMailProg=/bin/a\ninclude mail.conf\n", "/bin/inc"),
        ("Include loop.conf\n", "/bin/loop"),
        ("Include same.conf\n", "/bin/relative"),
        ("Include /a/same.conf\n", "/bin/absolute"),
        ("Include gone.conf\n", None),  # sub/gone.conf is another file
        ("Include ./sub/../mail.conf\n", None),  # the host's reader names each file as its Include does
        ("Include elsewhere.conf\n", None),
        ("#Include mail.conf\n", None),
        ("  Include mail.conf\n", None),  # "Parse error": slurmctld does not start
        ("Include=mail.conf\n", None),  # "unrecognized key: Include": slurmctld does not start
    ],
)
def test_included_files_are_read_where_the_include_stands(text: str, value: str | None) -> None:
    """An Include counts as the file's lines at its place."""
    files = {
        "/etc/slurm/sub/mail.conf": "MailProg=/bin/sub\n",
        "/etc/slurm/sub/outer.conf": "Include mail.conf\n",
        "/etc/slurm/mail.conf": "MailProg=/bin/inc\n",
        "/etc/slurm/alps.conf": "MailProg=/bin/alps\n",
        "/a/same.conf": "MailProg=/bin/absolute\n",
        "/etc/slurm/same.conf": "MailProg=/bin/relative\n",
        "/etc/slurm/sub/gone.conf": "MailProg=/bin/gone\n",
        "/etc/slurm/loop.conf": "MailProg=/bin/loop\nInclude loop.conf\n",
    }
    setting = slurm_conf.value(text, "MailProg", files)
    assert (setting.value if setting else None) == value


def test_a_relative_include_is_in_the_folder_of_slurm_conf() -> None:
    """Wherever slurm.conf is: /etc/slurm is only its usual folder."""
    files = {"/opt/slurm/etc/mail.conf": "MailProg=/bin/opt\n", "/etc/slurm/mail.conf": "MailProg=/bin/etc\n"}
    setting = slurm_conf.value("Include mail.conf\n", "MailProg", files, "/opt/slurm/etc")
    assert setting == Setting("/bin/opt", "/opt/slurm/etc/mail.conf", 1, 1)
    other = {"/opt/slurm/etc/mail.conf": "MailProg=/bin/other\n"}
    texts = ("Include mail.conf\n", files), ("Include mail.conf\n", other)
    assert slurm_conf.differing(*texts, "/opt/slurm/etc") == ("MailProg",)


@pytest.mark.parametrize(
    ("value", "plugins"),
    [
        ("lua", (LUA,)),
        ("burst_buffer/lua", (LUA,)),
        ("lua,", (LUA,)),
        (",burst_buffer/lua", (LUA,)),
        ("Lua", ("burst_buffer/Lua",)),  # "cannot find": slurmctld does not start
        ("Burst_Buffer/lua", ("burst_buffer/Burst_Buffer/lua",)),  # the same
        ("datawarp", ("burst_buffer/datawarp",)),
        ("lua,datawarp", (LUA, "burst_buffer/datawarp")),
        ("", ()),
        (",", ()),
        ("(null)", ()),
    ],
)
def test_a_burst_buffer_type_names_plugins(value: str, plugins: tuple[str, ...]) -> None:
    """Slurm adds the prefix where it lacks, so `lua` is burst_buffer/lua."""
    assert slurm_conf.burst_buffers(value) == plugins


def test_a_setting_names_its_file_and_lines() -> None:
    """People must find it: a continued line has its first and last line number."""
    files = {"/etc/slurm/nodes.conf": "\n\nBurstBufferType=burst_buffer/datawarp\n"}
    assert slurm_conf.value("\n\nKillWait=\\\n7\n", "killwait") == Setting("7", "", 3, 4)
    assert slurm_conf.value(SITE, KEY, files) == Setting("burst_buffer/datawarp", "/etc/slurm/nodes.conf", 3, 3)
    assert slurm_conf.value(SITE, "SchedulerParameters") == Setting("bf_interval=30,bf_window=1440", "", 5, 6)


def test_a_key_that_may_stand_twice_has_all_its_settings() -> None:
    """SlurmctldHost names the primary first, then the backups."""
    assert slurm_conf.settings(SITE, "slurmctldhost") == (Setting("ctl1", "", 3, 3), Setting("ctl2", "", 4, 4))


def test_only_include_lines_are_followed() -> None:
    """Include must begin the line, outside a comment; its name has no quotes."""
    files = {f"/etc/slurm/{name}.conf": f"A={name}\n" for name in "abcdef"}
    text = 'Include a.conf # x\n#Include b.conf\ninclude\t/etc/slurm/c.conf\n Include d.conf\nIncludes=e.conf\nInclude "f.conf"\n'
    assert [setting.value for setting in slurm_conf.settings(text, "A", files)] == ["a", "c"]


TEXTS = [
    "",
    "\n",
    SITE,
    SITE.rstrip("\n"),
    SITE.replace("\n", "\r\n"),
    SITE.replace("\n", "\r\n").rstrip(),
    SITE + "\n\n\n",
    "KillWait=7",
    "# caf\udce9\x85\u2028 \x0b\x0c\nKillWait=7\n",
    "# dws-on-csm is described in the wiki\n",
    # ends in a continuation
    "KillWait=7 \\\n",
    "KillWait=7 \\",
    "KillWait=7 \\  \n",
    "KillWait=7 \\\r\n",
    "KillWait=7\r\nSchedulerParameters=a,\\\r",
    "KillWait=7 \\ # why\n",
    "KillWait=7 \\\n# dws-on-csm is described in the wiki\n",
    "KillWait=7 \\\n# dws-on-csm is described in the wiki",
    "# dws-on-csm is described in the wiki \\\n",
    "\\\n\\\n",
    "\\",
    "Include nodes.conf \\\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_an_appended_line_is_removed_without_a_trace(text: str) -> None:
    """A rollback or undeploy restores the exact bytes, including a missing final newline."""
    changed = slurm_conf.with_setting(text, KEY, LUA, "why")
    assert changed.startswith(text)
    assert changed[len(text) :].split() == ["#", "dws-on-csm:", "why", f"{KEY}={LUA}"]
    assert found(changed, KEY) == LUA
    assert slurm_conf.with_setting(changed, KEY, LUA, "why") == changed
    assert slurm_conf.without_setting(changed, KEY) == text


def test_an_appended_line_has_the_files_line_ending() -> None:
    """A file with CR LF gets no other line ends."""
    changed = slurm_conf.with_setting(SITE.replace("\n", "\r\n"), KEY, LUA, "set by dws-on-csm")
    assert changed.endswith(f"\r\n# set by dws-on-csm\r\n{KEY}={LUA}\r\n")


def test_a_final_continuation_does_not_swallow_an_appended_line() -> None:
    """The earlier line is joined with our comment, not with the setting. If somebody adds lines, the comment stays, or that
    line would continue into them."""
    changed = slurm_conf.with_setting("KillWait=7 \\\n", KEY, LUA, "why")
    assert found(changed, KEY) == LUA
    assert found(changed, "KillWait") == "7"
    kept = slurm_conf.without_setting(changed + "MailProg=/bin/a\n", KEY)
    assert (found(kept), found(kept, "KillWait")) == ("/bin/a", "7")


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("BurstBufferType=generic\n", "BurstBufferType=burst_buffer/lua\n"),
        ("  burstbuffertype = generic\t# theirs\n", "  burstbuffertype = burst_buffer/lua\t# theirs\n"),
        ('BurstBufferType="a b"  #c\r\n', "BurstBufferType=burst_buffer/lua  #c\r\n"),
        ('BurstBufferType=""\n', "BurstBufferType=burst_buffer/lua\n"),
        ("BurstBufferType=\\ # one\n  gen\\#eric # two\n", "BurstBufferType=\\ # one\n  burst_buffer/lua # two\n"),
        ("BurstBufferType=burst_\\\nbuffer/data\\\nwarp # c\n", "BurstBufferType=burst_buffer/lua # c\n"),
        ("BurstBuffer\\\nType=generic\n", "BurstBuffer\\\nType=burst_buffer/lua\n"),
        ("BurstBufferType = burst_buffer/lua  # as wanted\n", "BurstBufferType = burst_buffer/lua  # as wanted\n"),
        ('BurstBufferType="burst_buffer/lua"\n', 'BurstBufferType="burst_buffer/lua"\n'),
    ],
)
@pytest.mark.parametrize("text", TEXTS)
def test_a_value_is_replaced_in_its_place(text: str, line: str, after: str) -> None:
    """Only the value's bytes change: spelling, white space, comments and all other lines stay."""
    changed = slurm_conf.with_setting(line + text, KEY, LUA, "why")
    assert changed == after + text
    assert slurm_conf.without_setting(changed, KEY) == text


def test_of_several_lines_the_effective_one_stays() -> None:
    """Slurm uses the last and logs an error for the others, which are removed; the lines between them stay."""
    text = f"{KEY}=a # 1\nKillWait=7\n# set by dws-on-csm\n{KEY}=b\n\n burstbuffertype=c # 3\nInclude x\n"
    changed = slurm_conf.with_setting(text, KEY, LUA, "why")
    assert changed == f"KillWait=7\n\n burstbuffertype={LUA} # 3\nInclude x\n"
    assert slurm_conf.with_setting(changed, KEY, LUA, "why") == changed


@pytest.mark.slow
def test_no_text_whatever_loses_another_setting() -> None:
    """Three thousand texts of difficult parts: the key is set once, and everything else keeps its meaning."""
    dice = random.Random(1)  # noqa: S311 - texts to try, no secrets
    parts = [
        "burstbuffertype=x",
        f"{KEY} = y z",
        "A=1",
        "B = 2",
        "\\",
        "#",
        '"',
        " ",
        "\r",
        "\n",
        "\n",
        "\n",
        "# dws-on-csm\n",
    ]
    for _ in range(3_000):
        text = "".join(dice.choices(parts, k=dice.randint(0, 14)))
        changed = slurm_conf.with_setting(text, KEY, LUA, "why")
        without = slurm_conf.without_setting(changed, KEY)
        assert [setting.value for setting in slurm_conf.settings(changed, KEY)] == [LUA], repr(text)
        assert slurm_conf.with_setting(changed, KEY, LUA, "why") == changed, repr(text)
        assert slurm_conf.settings(without, KEY) == (), repr(text)
        assert without == text or slurm_conf.settings(text, KEY), repr(text)
        for key in "AB":
            meant = [setting.value for setting in slurm_conf.settings(text, key)]
            assert [setting.value for setting in slurm_conf.settings(changed, key)] == meant, repr(text)
            assert [setting.value for setting in slurm_conf.settings(without, key)] == meant, repr(text)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("A=1\nBurstBufferType=x\nB=2\n", "A=1\nB=2\n"),
        ("A=1\nburstbuffertype = \\\n  x # c\nB=2\n", "A=1\nB=2\n"),
        ("A=1\nBurstBufferType=x", "A=1"),
        ("A=1\n# theirs\nBurstBufferType=x\n", "A=1\n# theirs\n"),
        ("A=1\n# set by dws-on-csm: x\nBurstBufferType=x\n", "A=1\n"),
        ("# set by dws-on-csm: x\n\nBurstBufferType=x\n", "# set by dws-on-csm: x\n\n"),
        ("A=1 # dws-on-csm\nBurstBufferType=x\n", "A=1 # dws-on-csm\n"),
        ("BurstBufferType=x\nB=2\nBurstBufferType=y\n", "B=2\n"),
        ("A=1\n#BurstBufferType=x\n", "A=1\n#BurstBufferType=x\n"),
    ],
)
def test_a_key_is_taken_out_with_our_comment_alone(text: str, without: str) -> None:
    """The site's own comment above the line stays."""
    assert slurm_conf.without_setting(text, KEY) == without


@pytest.mark.parametrize("value", ["plain", "two words", "", "a#b", "a\\b", "#", "\\", "a\tb # c", "'x'"])
def test_written_text_is_read_back(value: str) -> None:
    """Any value can be read back, quoted and escaped where Slurm's grammar requires it."""
    for text in ("", "MailProg=/bin/a # c\n"):
        changed = slurm_conf.with_setting(text, "MailProg", value, "why")
        assert found(changed) == value
        assert slurm_conf.with_setting(changed, "MailProg", value, "why") == changed


@pytest.mark.parametrize("value", ['say "a"', "two\nlines"])
def test_a_value_that_slurm_conf_cannot_hold_is_refused(value: str) -> None:
    """No file is better than a file with another meaning."""
    with pytest.raises(ValueError, match="cannot express the value"):
        slurm_conf.with_setting(SITE, KEY, value, "why")


def test_a_comment_of_ours_that_lost_its_line_gets_it_back() -> None:
    """After somebody removed the line and left our comment, the line is put under it, without a second comment."""
    whole = slurm_conf.with_setting("A=1\n", "BurstBufferType", "burst_buffer/lua", "why") + "B=2\n"
    without = "".join(line for line in whole.splitlines(keepends=True) if not line.startswith("BurstBufferType"))
    assert slurm_conf.with_setting(without, "BurstBufferType", "burst_buffer/lua", "why") == whole


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ("A=1\nB=2\n", "# x\n\nb = 2 # y\n A=1", ()),
        ("A=1\n", "A=2\n", ("A",)),
        ("A=1\n", "#A=1\n", ("A",)),
        ("A=x\n", "A=X\n", ("A",)),
        ('A="x"\n', "A=x\n", ()),
        ("NodeName=a  CPUs=1\nNodeName=b CPUs=2\n", "NodeName=a CPUs=1\nNodeName=b \\\nCPUs=2\n", ()),
        ("NodeName=a CPUs=1\n", "NodeName=a CPUs=2\n", ("NodeName",)),
        ("SlurmctldHost=a\nSlurmctldHost=b\n", "SlurmctldHost=b\nSlurmctldHost=a\n", ("SlurmctldHost",)),
        ("X=1\nInclude more\n", "X=1\nY=2\n", ()),
    ],
)
def test_what_makes_a_difference(one: str, other: str, keys: tuple[str, ...]) -> None:
    """Settings that slurmctld would read differently, at any place; nothing else."""
    more = {"/etc/slurm/more": "y=2\n"}
    assert slurm_conf.differing((one, more), (other, more)) == keys


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "A=1\n#BurstBufferType=burst_buffer/lua\nB=2\n",
            "A=1\n# dws-on-csm: why\nBurstBufferType=burst_buffer/lua\nB=2\n",
        ),
        ("  ## burstbuffertype = burst_buffer/lua \nB=2", "# dws-on-csm: why\nBurstBufferType=burst_buffer/lua\nB=2"),
        (
            "# dws-on-csm: why\r\n#BurstBufferType=burst_buffer/lua\r\n",
            "# dws-on-csm: why\r\nBurstBufferType=burst_buffer/lua\r\n",
        ),
    ],
)
def test_a_setting_that_was_commented_out_is_set_in_its_place(text: str, after: str) -> None:
    """The old comment does not stay beside the line; an undeploy then leaves neither."""
    changed = slurm_conf.with_setting(text, KEY, LUA, "why")
    assert changed == after
    assert slurm_conf.with_setting(changed, KEY, LUA, "why") == changed
    assert KEY.lower() not in slurm_conf.without_setting(changed, KEY).lower()


@pytest.mark.parametrize(
    "text",
    [
        "#BurstBufferType=burst_buffer/datawarp\n",
        "# BurstBufferType=burst_buffer/lua is ours to set\n",
        "#BurstBufferType=burst_buffer/lua # not before May\n",
        "A=1 \\\n#BurstBufferType=burst_buffer/lua\nB=2\n",
        "#BurstBufferType=burst_buffer/lua",
    ],
)
def test_another_comment_stays(text: str) -> None:
    """A comment that says something else, or that ends a joined line, is somebody's: the line is appended."""
    changed = slurm_conf.with_setting(text, KEY, LUA, "why")
    assert changed.startswith(text) and found(changed, KEY) == LUA
    assert slurm_conf.without_setting(changed, KEY) == text


@pytest.mark.parametrize(
    ("one", "other", "differing"),
    [
        ("A=1\n# a\nB=2\n", "  b = 2  # b\n\nA=1\n", ("", "")),
        ("A=1\nB=2\n", "A=1\nB=3 # c\n", ("B=2\n", "B=3\n")),
        ("A=1\nInclude a\n", "A=1\nInclude b\n", ("Include a\n", "Include b\n")),
        ("N=a\nN=b\n", "N=b\nN=a\n", ("N=a\nN=b\n", "N=b\nN=a\n")),
        ("A=1\n", "", ("A=1\n", "")),
        ("# a key\n", "A=1 \\\n B=2\n", ("", "A=1 B=2\n")),
    ],
)
def test_files_differ_in_lines_that_mean_something(one: str, other: str, differing: tuple[str, str]) -> None:
    """Comments, blanks and the order of different keys are no difference; the lines that differ are shown without them."""
    assert slurm_conf.differing_lines(one, other) == differing


@pytest.mark.slow
def test_files_that_include_each_other_come_to_an_end() -> None:
    """Thirty small files, each of which includes the next one twice, are a billion lines: they are refused, and say why.

    So are more includes than anybody has, also of files that are not there, and more lines.
    """
    files = {f"/etc/slurm/a{i}": f"Include a{i + 1}\nInclude a{i + 1}\n" for i in range(30)} | {"/etc/slurm/a30": ""}
    for text, others in (
        ("Include a0\n", files),
        ("Include gone\n" * slurm_conf.FILES, {}),
        ("Include a30\n" * slurm_conf.FILES, files),
        ("Include long\nInclude long\n", {"/etc/slurm/long": "#\n" * (slurm_conf.LINES // 2)}),
        ("Include long\nInclude long\n", {"/etc/slurm/long": "#" * (slurm_conf.LARGEST // 2) + "\n"}),
    ):
        with pytest.raises(Refused, match="slurm-conf-too-long"):
            slurm_conf.value(text, KEY, others)
        with pytest.raises(Refused, match="slurm-conf-too-long"):
            slurm_conf.differing(("A=1\n", {}), (text, others))


def test_as_many_files_as_a_site_may_have_are_read() -> None:
    """The largest allowed number is read completely."""
    files = {f"/etc/slurm/a{i}": f"A={i}\n" for i in range(slurm_conf.FILES - 1)}
    text = "".join(f"Include a{i}\n" for i in range(slurm_conf.FILES - 1))
    assert len(slurm_conf.settings(text, "A", files)) == slurm_conf.FILES - 1
    loop = {"/etc/slurm/loop": "A=1\nInclude loop\n" * 400}
    assert len(slurm_conf.settings("Include loop\n", "A", loop)) == 400


def test_a_too_long_slurm_conf_is_not_read() -> None:
    """A text has a limit in bytes and in lines; below it, each byte is preserved."""
    for content in (b"#" * (slurm_conf.LARGEST + 1), b"\n" * (slurm_conf.LINES + 1)):
        with pytest.raises(ValueError, match="does not read it"):
            slurm_conf.decoded(content)
    assert slurm_conf.decoded(b"A=\xe9\n") == "A=\udce9\n"
    assert slurm_conf.decoded(b"\n" * slurm_conf.LINES) == "\n" * slurm_conf.LINES


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a\\\n", "\\", "#", "\n", " ", "a", "a=", '"', "\\\\\n", "\\#", "Include a\\\n"])
def test_the_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    """The time for each character does not grow with the length of a text, whatever it repeats."""

    def work(size: int) -> object:
        text = (piece * size)[:size]
        return slurm_conf.without_setting(slurm_conf.with_setting(text, KEY, LUA, "why"), KEY), slurm_conf.value(
            text, KEY
        )

    assert_no_square(work, 4_000)
