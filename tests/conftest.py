"""
Rules for the whole suite: skipped tests in CI, and tests that cannot run on a compiled copy.

In CI, where everything is installed, a test that is skipped because something is missing fails.

``CI=true`` marks such a machine. On any other one a test without its server is skipped, with the missing one.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any, Final

import pytest

from tests.fuzz.__main__ import NO_ATHERIS

COMPILED: Final = "TXSENTINEL_TESTS_COMPILED"
"""Set if the tests run on a compiled copy."""

NOT_COMPILED: Final = {
    "tests/sim/test_membership.py::ParkingTests::test_without_the_rule": "patches what is compiled",
    "tests/sim/test_membership.py::RemovalTests::test_minority": "patches what is compiled",
    "tests/sim/test_data.py::OtherGroupTests::test_orders_are_checked": "patches what is compiled",
    "tests/sim/test_switchover_crashes.py::CrashTests::test_wrong_receipt": "patches what is compiled",
    "tests/config/test_saving.py::SlicedTests::": "patches a constant",
    "tests/core/test_fan_out.py::FanOutTests::test_limited": "patches a constant",
    "tests/config/test_store.py::SlicesTests::": "patches a constant and a function",
    "tests/config/test_store.py::ManyMastersTests::test_one_of_a_thousand": "patches a function",
    "tests/core/test_many_masters.py::": "counts lines",
    "tests/core/test_pauses.py::GuaranteeTests::test_many_masters_wait": "patches a constant and a method",
    "tests/core/test_unfit_codes.py::LimitTests::test_limits": "patches constants",
    "tests/runtime/test_executor.py::": "derives from a compiled class",
    "tests/runtime/test_sweeper.py::SweepTests::": "patches a method",
    "tests/sim/explore/test_search.py::CommandTests::test_violation_is_printed": "uses a mutant",
    "tests/sim/explore/test_search.py::CommandTests::test_exceptions_are_violations": "patches a method",
    "tests/sim/explore/test_search.py::DefectTests::": "uses mutants",
    "tests/sim/test_minimising.py::ReproductionTests::": "uses a mutant",
    "tests/sim/test_mutants.py::": "patches what it tests",
    "tests/sim/test_swarm.py::SwarmTests::test_mass_failures": "patches a method",
    "tests/wire/test_replies_properties.py::RepliesProperties::test_the_count_bites": "patches a method",
    "tests/wire/test_requests_properties.py::RequestsProperties::test_forgetting": "patches methods",
    "tests/server/test_bounds.py::EventTests::test_slow_subscriber_is_dropped": "patches a constant",
}
"""
Prefixes of the names of tests that cannot run on a compiled copy, with reasons.

The constants and functions of a compiled module are compiled into their callers, which patches do not reach.
"""

ALLOWED_SKIPS: Final = (
    NO_ATHERIS,
    "pictures need matplotlib",
    "cannot reach servers by TLS",
    "TXSENTINEL_LONG",
    "no benchmark needs it",
)
"""Parts of reasons that are valid in CI too: optional tools, longer variants, limits of a library and of stand-ins."""


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Deselect the tests that cannot run on a compiled copy, on such a copy.

    :raises pytest.UsageError: if a name in the list matches no test of a file that was collected as a whole.
    """
    collected = {item.nodeid.partition("::")[0] for item in items if not any("::" in each for each in config.args)}
    for beginning in NOT_COMPILED:
        if beginning.partition("::")[0] in collected and not any(item.nodeid.startswith(beginning) for item in items):
            raise pytest.UsageError(f"NOT_COMPILED in tests/conftest.py: there is no test {beginning}")
    if not os.environ.get(COMPILED):
        return
    left_out = [item for item in items if item.nodeid.startswith(tuple(NOT_COMPILED))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Turn a skip into a failure in CI, unless its reason is an allowed one."""
    report: pytest.TestReport = yield
    expected = hasattr(report, "wasxfail") or any(part in _reason(report) for part in ALLOWED_SKIPS)
    if report.skipped and not expected and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which is a failure in CI: {_reason(report)}"
    return report
