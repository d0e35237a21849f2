"""`python -m bench [PART...]`: measure this tool against others on the same hosts, in alternation; print a table, write JSON."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.clients import CLIENTS, PRODUCT, Client, Task
from bench.measure import Cost, Failed, Spread
from bench.parts import PARTS, Part
from bench.starts import starts
from bench.table import Row, table
from bench.whole import whole
from lab import cache

DEADLINE = 600.0  # seconds that one client may take for one round


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="A, B, C, D, E, F (default: all)")
    parser.add_argument("--hosts", type=_numbers, help="numbers of hosts, such as 8,64 (default: those of each part)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds that count; one before them does not (default: 5)"
    )
    parser.add_argument("--bound", type=int, default=32, help="hosts at the same time, for each client (default: 32)")
    parser.add_argument("--clients", default="", help="only these, by the beginnings of their names: this,ssh,pyinfra")
    parser.add_argument("--lines", type=int, default=1500, help="lines of slurm.conf (default: 1500)")
    parser.add_argument("--json", type=Path, help="write all values there")
    found = parser.parse_args(words)
    known = {part.letter for part in PARTS} | {"E", "F"}
    if unknown := [letter for letter in found.parts if letter not in known]:
        parser.error(f"no such part: {', '.join(unknown)}")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def main(words: Sequence[str]) -> int:
    """Measure, print a table, and return an exit code: 1 where a client failed."""
    options = arguments(words)
    if os.geteuid():
        sys.exit("bench: only root can make network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that hosts and namespaces go with it
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    parts = [part for part in PARTS if not options.parts or part.letter in options.parts]
    chosen = [client for client in CLIENTS if _wanted(client.name, options.clients)] if parts else [PRODUCT]
    with _alone():
        for client in chosen:
            _say(f"installing {client.name}")
            client.install()
        rows = [row for part in parts for row in _part(part, chosen, options)]
        if not options.parts or "E" in options.parts:
            rows += whole(options.rounds, _say)
        if not options.parts or "F" in options.parts:
            rows += starts(options.rounds)
    versions = {client.name: client.version() for client in chosen}
    print(table(rows, versions))
    if options.json:
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        content = {"machine": machine, "versions": versions, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(row.failed for row in rows) else 0


def _wanted(name: str, beginnings: str) -> bool:
    return not beginnings or any(name.lower().startswith(word.strip().lower()) for word in beginnings.split(","))


def _part(part: Part, clients: Sequence[Client], options: argparse.Namespace) -> Iterator[Row]:
    for count in options.hosts or part.counts:
        _say(f"{part.letter}: {count} hosts")
        with tempfile.TemporaryDirectory(prefix="dws-bench-") as folder:
            yield from _measured(part, count, clients, options, Path(folder))


def _measured(
    part: Part, count: int, clients: Sequence[Client], options: argparse.Namespace, folder: Path
) -> list[Row]:
    """The row of each client. All take turns in each round, so what else the machine does meets all of them."""
    before, after = texts(options.lines)
    conf = folder / "wanted.conf"
    conf.write_text(after)
    costs: dict[str, list[Cost]] = {client.name: [] for client in clients}
    failed: dict[str, str] = {}
    with part.fleet(folder / "fleet", count) as fleet:
        task = Task(part.work, fleet, conf, options.bound)
        for number in range(options.rounds + 1):
            order = [*clients[number % len(clients) :], *clients[: number % len(clients)]]
            for client in order:
                if client.name in failed:
                    continue
                fleet.reset(before if part.work == "edit" else after)
                load = os.getloadavg()[0]
                try:
                    cost = client.run(task, DEADLINE)
                    if wrong := fleet.differing(after):
                        raise Failed(f"{client.name} left another slurm.conf on {wrong} hosts")
                except Failed as error:
                    _say(f"{client.name} failed: {error}")
                    failed[client.name] = str(error)
                    continue
                _say(f"  round {number}: {client.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s, load {load:.1f}")
                if number:
                    costs[client.name].append(cost)
    floor = costs.get(part.floor.name, [])
    return [_row(part, count, client, costs[client.name], floor, failed) for client in clients]


def _row(part: Part, count: int, client: Client, costs: list[Cost], floor: list[Cost], failed: dict[str, str]) -> Row:
    if not costs:
        return Row(part.letter, part.title, count, client.name, failed=failed.get(client.name, "not measured"))
    ratios = [mine.wall / its.wall for mine, its in zip(costs, floor, strict=False)]
    shares = [mine.cpu / its.cpu for mine, its in zip(costs, floor, strict=False)]
    goal = part if client is PRODUCT else None
    return Row(
        *(part.letter, part.title, count, client.name),
        wall=Spread.of([cost.wall for cost in costs]),
        cpu=Spread.of([cost.cpu for cost in costs]),
        memory=max(cost.memory for cost in costs),
        wall_ratio=Spread.of(ratios) if ratios else None,
        cpu_ratio=Spread.of(shares) if shares else None,
        wall_goal=goal.wall if goal else None,
        cpu_goal=goal.cpu if goal else None,
        said=costs[-1].out.strip() if client is PRODUCT else "",
    )


def texts(lines: int) -> tuple[str, str]:
    """slurm.conf before and after: of a cluster of so many lines, without and with the burst buffer."""
    head = "ClusterName=bench\nSlurmctldHost=controller\nSlurmUser=slurm\nSchedulerType=sched/backfill\n"
    nodes = "".join(
        f"NodeName=nid{number:06} CPUs=128 RealMemory=512000 Features=rack{number // 64} # cabinet {number // 256}\n"
        for number in range(max(0, lines - 5))
    )
    text = f"{head}{nodes}PartitionName=work Nodes=ALL Default=YES State=UP\n"
    return text, f"{text}# set by dws-on-csm\nBurstBufferType=burst_buffer/lua\n"


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second bench away: both would use the same namespaces and folders."""
    folder = cache.folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("bench: another bench is running on this machine: wait for its end")
        yield


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
