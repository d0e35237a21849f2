"""A process that has imported what each of our programs begins with, and answers command lines in forks of itself.

A fork reads and runs the program's own file, with streams of its own, and ends as it does: only the imports, most of the time that
a refused command line takes, are made once for all.

    python ready_program.py < lines of JSON {"argv": [PROGRAM, ...], "out": FILE, "err": FILE} > lines with exit codes
"""

import gc
import json
import os
import runpy
import sys
from pathlib import Path

import fabric.main  # noqa: F401  # what `fab` imports
import invoke.main  # noqa: F401  # what `invoke` does

import dws_on_csm.commands.command_line
import dws_on_csm.config.load
import dws_on_csm.redaction.redact  # noqa: F401  # with what is said


def main() -> None:
    """Answer until there are no more lines. In a fork: be the program, and end with it."""
    gc.freeze()  # else each fork would copy what is here only to see that nothing of it can go
    for line in sys.stdin:
        if child := os.fork():
            sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
            sys.stdout.flush()
            continue
        given = json.loads(line)
        for number, (name, how) in enumerate(((os.devnull, "rb"), (given["out"], "wb"), (given["err"], "wb"))):
            with Path(name).open(how) as file:
                os.dup2(file.fileno(), number)
        sys.argv = given["argv"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
        return


if __name__ == "__main__":
    main()
