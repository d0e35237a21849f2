"""invoke: runs the commands of the checkout that contains the present folder, else of the one that contains this file's .venv.

bin/setup.sh copies this to .venv/bin/invoke, in place of invoke's own program: that one prints its help and its version before it
reads any command of ours. In a folder with other tasks it is invoke's own.
"""

import sys
from pathlib import Path

here = Path.cwd()
checkout = next((folder for folder in (here, *here.parents) if (folder / "tasks.py").is_file()), None)
checkout = checkout or Path(__file__).absolute().parents[2]
if (checkout / "dws_on_csm/commands/program.py").is_file():
    sys.path.insert(0, str(checkout))
    from dws_on_csm.commands.program import main

    main("invoke")
else:
    from invoke.main import program

    program.run()
