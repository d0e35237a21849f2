"""Draws docs/run.svg, the README's picture of a run: `python -m docs.picture runs/RUN/journal.jsonl SECONDS`.

The picture is what the terminal showed SECONDS after the run's begin.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from dws_on_csm.display import screen
from dws_on_csm.display.progress import Progress, take
from dws_on_csm.model.event_json import from_json
from dws_on_csm.model.events import Began, Done, Event, Opened

WIDTH = 100

# Without the fonts that rich would have fetched from the network.
FRAME = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def standing(events: Iterable[Event], seconds: float) -> tuple[Progress, float]:
    """Where the run stood so many seconds after its begin, and when that was."""
    progress, now = Progress(), 0.0
    for event in events:
        if isinstance(event, Opened | Began):
            now = max(now, event.at)
        elif isinstance(event, Done):
            now = max(now, event.began + event.seconds)
        if now > progress.began + seconds and progress.run:
            break
        take(progress, event, now)
    return progress, progress.began + seconds


def picture(events: Iterable[Event], seconds: float) -> str:
    """The terminal at that moment, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text("$ invoke install"))
    progress, now = standing(events, seconds)
    for row in screen.frame(progress, WIDTH, 30, now):
        console.print(Text.assemble(*row), no_wrap=True, overflow="ellipsis")
    return console.export_svg(title="invoke install", theme=DIMMED_MONOKAI, code_format=FRAME, unique_id="run")


if __name__ == "__main__":
    journal = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    svg = picture([from_json(json.loads(line)) for line in journal], float(sys.argv[2]))
    Path(__file__).with_name("run.svg").write_text(svg, encoding="utf-8")
