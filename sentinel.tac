"""
Runs a Sentinel from an application file: ``SENTINEL_CONF=/etc/redis/sentinel.conf twistd -ny sentinel.tac``.

``twistd sentinel -c sentinel.conf`` does the same and more; start from this one to run other services
in the process. Without SENTINEL_CONF the file is ``sentinel.conf`` in the current directory.
"""

import os

from twisted.application.service import Application

from txsentinel.cli.tap import Options, makeService

options = Options()
options.parseOptions(["--config", os.environ.get("SENTINEL_CONF", "sentinel.conf")])

application = Application("sentinel")
makeService(options).setServiceParent(application)
