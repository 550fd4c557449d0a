"""What a Sentinel without TLS, ACL file, scripts and extensions loads; see ``test_loaded_modules``."""

from __future__ import annotations

from typing import Final

VERSIONS: Final = ((3, 11), "26.10.0")
"""The versions of Python and Twisted whose modules these lists have. With others only forbidden ones are refused."""

PACKAGES: Final = ("config", "core", "interfaces", "links", "model", "process", "reactor", "runtime", "server", "wire")
"""The packages of this project that a Sentinel loads, except the modules that are listed next."""

NOT_LOADED: Final = """
txsentinel.model.doctor txsentinel.model.drawing txsentinel.model.history_merge txsentinel.model.proxy_header
txsentinel.runtime.examining txsentinel.runtime.operator txsentinel.runtime.snapshot_builder
txsentinel.runtime.snapshot_cache txsentinel.runtime.view txsentinel.runtime.view_subscriptions
"""
"""Modules of these packages that a Sentinel does not load."""

ALSO_LOADED: Final = """
txsentinel.cli txsentinel.cli.building txsentinel.cli.extensions txsentinel.cli.imports txsentinel.cli.overrides
txsentinel.cli.refusing txsentinel.cli.tap txsentinel.tls txsentinel.tls.activation txsentinel.tls.errors
"""
"""Modules of other packages of this project that a Sentinel loads."""

OTHERS: Final = """
array atexit attr attr._cmp attr._compat attr._config attr._funcs attr._make attr._next_gen attr._version_info
attr.converters attr.exceptions attr.setters attr.validators attrs attrs.exceptions attrs.setters automat
automat._core automat._introspection automat._methodical automat._runtimeproto automat._typed base64 binascii bisect
collections.abc constantly constantly._constants constantly._version contextlib contextvars copy copyreg dataclasses
datetime dis encodings.ascii errno fcntl fnmatch gc getopt glob grp hashlib heapq hmac importlib importlib._bootstrap
importlib._bootstrap_external importlib.machinery incremental incremental._version inspect json json.decoder
json.encoder json.scanner linecache logging math opcode pickle platform pwd queue random re re._casefix re._compiler
re._constants re._parser resource select selectors socket string struct syslog termios threading token traceback
twisted twisted._threads twisted._threads._convenience twisted._threads._ithreads twisted._threads._memory
twisted._threads._pool twisted._threads._team twisted._threads._threadworker twisted._version twisted.application
twisted.application.app twisted.application.reactors twisted.application.service twisted.copyright twisted.internet
twisted.internet._baseprocess twisted.internet._idna twisted.internet._resolver twisted.internet._signals
twisted.internet.abstract twisted.internet.address twisted.internet.base twisted.internet.default
twisted.internet.defer twisted.internet.epollreactor twisted.internet.error twisted.internet.fdesc
twisted.internet.interfaces twisted.internet.main twisted.internet.posixbase twisted.internet.process
twisted.internet.protocol twisted.internet.reactor twisted.internet.task twisted.internet.tcp twisted.internet.threads
twisted.logger twisted.logger._buffer twisted.logger._capture twisted.logger._file twisted.logger._filter
twisted.logger._flatten twisted.logger._format twisted.logger._global twisted.logger._interfaces twisted.logger._io
twisted.logger._legacy twisted.logger._levels twisted.logger._logger twisted.logger._observer twisted.logger._stdlib
twisted.persisted twisted.persisted.sob twisted.persisted.styles twisted.plugin twisted.plugins twisted.protocols
twisted.python twisted.python._tzhelper twisted.python.compat twisted.python.components twisted.python.context
twisted.python.deprecate twisted.python.failure twisted.python.filepath twisted.python.lockfile twisted.python.log
twisted.python.modules twisted.python.reflect twisted.python.runtime twisted.python.threadable
twisted.python.threadpool twisted.python.usage twisted.python.util twisted.python.versions twisted.python.win32
twisted.scripts twisted.scripts._twistd_unix twisted.scripts.twistd typing typing.io typing.re unicodedata urllib
warnings weakref zlib zope zope.interface zope.interface._compat zope.interface._zope_interface_coptimizations
zope.interface.adapter zope.interface.declarations zope.interface.exceptions zope.interface.interface
zope.interface.interfaces zope.interface.ro
"""
"""Modules of others, besides those of an interpreter that runs nothing, and those whose names begin with ``_``."""

BY_SCRIPT: Final = """
txsentinel.cli.main txsentinel.cli.server_options
"""
"""What the console script loads besides."""

BY_TWISTD: Final = """
argparse ast asyncio asyncio.base_events asyncio.base_futures asyncio.base_subprocess asyncio.base_tasks
asyncio.constants asyncio.coroutines asyncio.events asyncio.exceptions asyncio.format_helpers asyncio.futures
asyncio.locks asyncio.log asyncio.mixins asyncio.protocols asyncio.queues asyncio.runners asyncio.selector_events
asyncio.sslproto asyncio.staggered asyncio.streams asyncio.subprocess asyncio.taskgroups asyncio.tasks asyncio.threads
asyncio.timeouts asyncio.transports asyncio.trsock asyncio.unix_events attr.filters attrs.converters attrs.filters
attrs.validators bdb bz2 calendar cmd code codeop concurrent concurrent.futures concurrent.futures._base ctypes
ctypes._endian difflib email email._encoded_words email._parseaddr email._policybase email.base64mime email.charset
email.encoders email.errors email.feedparser email.header email.iterators email.message email.parser email.quoprimime
email.utils getpass gettext html html.entities http http.client http.cookiejar importlib._abc importlib.util ipaddress
locale lzma ntpath pathlib pdb pprint pty quopri shutil ssl subprocess tempfile textwrap tokenize tty twisted.cred
twisted.cred.strcred twisted.logger._json twisted.plugins.twisted_conch twisted.plugins.twisted_ftp
twisted.plugins.twisted_inet twisted.plugins.twisted_mail twisted.plugins.twisted_names
twisted.plugins.twisted_portforward twisted.plugins.twisted_runner twisted.plugins.twisted_socks
twisted.plugins.twisted_web twisted.plugins.twisted_words twisted.plugins.txsentinel_plugin twisted.python.logfile
twisted.python.zippath twisted.trial twisted.trial.itrial twisted.words twisted.words.iwords txsentinel.extensions
txsentinel.extensions.building txsentinel.extensions.deferred typing_extensions unittest unittest.case unittest.loader
unittest.main unittest.result unittest.runner unittest.signals unittest.suite unittest.util urllib.error urllib.parse
urllib.request urllib.response uuid zipfile
"""
"""What ``twistd`` loads besides, most of it before it loads anything of this project."""

AFTERWARDS: Final = """
"""
"""What failovers, switchovers and scripts may load that the start does not."""
