"""
Fail a master over behind HAProxy, which follows in five ways: ``python -m examples.haproxy [--kill]``.

The master is stopped by SIGSTOP, as if its machine were cut off, so that nobody but HAProxy closes connections to it.
With ``--kill`` its process ends.
"""

import sys

from examples.failover import main
from examples.haproxy import ALL_WAYS

if __name__ == "__main__":
    main(*(way() for way in ALL_WAYS), freeze="--kill" not in sys.argv[1:])
