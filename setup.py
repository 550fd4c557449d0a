"""
The parts of the build that setup.cfg cannot express: the compiled build, chosen by
``TXSENTINEL_COMPILED=sentinel``, and the man page.

mypyc compiles the modules that packages list in ``COMPILED`` from the very same annotated Python; the others stay as
they are. Nothing else differs, and without the variable nothing is compiled and no compiler is needed.
``TXSENTINEL_COMPILED=simulator`` compiles what simulations spend their time in, too, which takes twice as long.
"""

import os
import sys

from setuptools import setup

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from build_support import man_page
from build_support.compiled_modules import BUILDS, compiled_modules


def extension_modules(build):
    """Return an extension module for each module to compile, and one that they share."""
    from mypyc.build import mypycify

    paths = [path for _, path in compiled_modules(os.curdir, build)]
    extensions = mypycify(
        paths, opt_level=os.environ.get("MYPYC_OPT_LEVEL", "s"), debug_level="0", group_name="txsentinel"
    )
    for extension in extensions:
        # The file is not indented, and checking its 300,000 lines takes three quarters of the compiler's time.
        extension.extra_compile_args.append("-Wno-misleading-indentation")
        # A third of the library's memory is saved by this and by optimising for size, which is as fast: the time goes
        # into the interpreter's own functions. Only the initialisation is called from outside, and nothing is unwound.
        extension.extra_compile_args += ["-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
    return extensions


wanted = os.environ.get("TXSENTINEL_COMPILED", "")
if wanted and wanted not in BUILDS:
    raise SystemExit(f"setup.py: TXSENTINEL_COMPILED is {wanted!r}; it may be one of {', '.join(BUILDS)}")
setup(
    ext_modules=extension_modules(wanted) if wanted else [],
    # Made by the backend before it builds a wheel.
    data_files=[("share/man/man8", [man_page.PATH])] if os.path.exists(man_page.PATH) else [],
)
