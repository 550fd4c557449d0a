"""
What setup.cfg cannot say: the compiled build, for those who ask for it with ``TXSENTINEL_COMPILED=sentinel``.

The modules that a Sentinel spends its time in are compiled by mypyc from the very same annotated Python; the others
stay as they are. Nothing else differs, and without the variable nothing is compiled and no compiler is needed.
``TXSENTINEL_COMPILED=simulator`` compiles what simulated worlds spend their time in, too, which takes twice as long.
"""

import os
import sys
from glob import glob

from setuptools import setup

HOT = (
    "txsentinel/model/timings.py",
    "txsentinel/model/address.py",
    "txsentinel/model/events.py",
    "txsentinel/model/log_text.py",
    "txsentinel/model/time_slice.py",
    "txsentinel/wire/*.py",
    "txsentinel/core/*.py",
    "txsentinel/config/directives.py",
    "txsentinel/config/document.py",
    "txsentinel/config/quoting.py",
    "txsentinel/config/rendering.py",
    "txsentinel/config/store.py",
    "txsentinel/links/*.py",
    "txsentinel/server/commands/connection.py",
    "txsentinel/server/dispatch.py",
    "txsentinel/server/execution.py",
    "txsentinel/server/output.py",
    "txsentinel/server/output_limits.py",
    "txsentinel/server/pacing.py",
    "txsentinel/server/request_cache.py",
    "txsentinel/server/protocol.py",
    "txsentinel/server/pubsub.py",
    "txsentinel/server/replies.py",
    "txsentinel/server/reply_writer.py",
    "txsentinel/server/reports.py",
    "txsentinel/server/commands/sentinel_queries.py",
    "txsentinel/server/specification.py",
    "txsentinel/server/statistics.py",
    "txsentinel/server/table.py",
    "txsentinel/runtime/executor.py",
    "txsentinel/runtime/durability.py",
    "txsentinel/runtime/sweeper.py",
    "txsentinel/reactor/read_coalescing.py",
    "txsentinel/reactor/multiplexer.py",
    "txsentinel/reactor/connectors.py",
)
"""What runs thousands of times a second, or while a failover waits for it."""

SIMULATOR = (
    "txsentinel/sim/c_links.py",
    "txsentinel/sim/c_sentinel.py",
    "txsentinel/sim/checks.py",
    "txsentinel/sim/clients.py",
    "txsentinel/sim/durable.py",
    "txsentinel/sim/wiretap.py",
    "txsentinel/sim/files.py",
    "txsentinel/sim/flows.py",
    "txsentinel/sim/fleet.py",
    "txsentinel/sim/groups.py",
    "txsentinel/sim/host.py",
    "txsentinel/sim/network.py",
    "txsentinel/sim/processes.py",
    "txsentinel/sim/reactor.py",
    "txsentinel/sim/records.py",
    "txsentinel/sim/sockets.py",
    "txsentinel/sim/tcp.py",
    "txsentinel/sim/wire_checks.py",
    "txsentinel/sim/simulation.py",
    "txsentinel/sim/redis/*.py",
)
"""What simulated worlds spend their time in, for soaks that see more of them: ``make soak-compiled``."""

LEFT = ("txsentinel/wire/values.py",)
"""Heirs of built-in types, which mypyc does not take."""


WANTED = {"sentinel": HOT, "simulator": HOT + SIMULATOR}


def compiled_modules(patterns):
    """
    Extension modules, one for each module that a pattern names and one that they share.

    :raises SystemExit: if a pattern names nothing.
    """
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from mypyc.build import mypycify

    hot = set()
    for pattern in patterns:
        paths = glob(pattern)
        if not paths:
            raise SystemExit(f"setup.py: there is no {pattern} to compile")
        hot.update(path for path in paths if path not in LEFT and not path.endswith("__init__.py"))
    extensions = mypycify(sorted(hot), opt_level=os.environ.get("MYPYC_OPT_LEVEL", "3"))
    for extension in extensions:
        # Nobody indented that file, and asking so of its 300,000 lines takes three quarters of the compiler's time.
        extension.extra_compile_args.append("-Wno-misleading-indentation")
    return extensions


wanted = os.environ.get("TXSENTINEL_COMPILED", "")
if wanted in WANTED:
    setup(ext_modules=compiled_modules(WANTED[wanted]))
elif wanted:
    raise SystemExit(f"setup.py: TXSENTINEL_COMPILED is {wanted!r}; it may be one of {', '.join(WANTED)}")
else:
    setup()
