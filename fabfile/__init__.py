"""dws-on-csm. For `fab` this is the namespace of repairs on one host; its tasks are in repairs.py."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`namespace`, which only `fab` asks for: an `import fabfile.x` stays light."""
    if name != "namespace":
        raise AttributeError(name)
    import sys
    from pathlib import Path

    # fab puts this folder itself on the path, where our session.py or site.py could be taken for somebody else's
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    from fabfile.repairs import namespace

    return namespace
