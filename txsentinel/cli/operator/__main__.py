"""``python -m txsentinel.cli.operator VERB ...``, as ``txsentinel VERB ...``."""

from __future__ import annotations

import sys

from txsentinel.cli.operator.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
