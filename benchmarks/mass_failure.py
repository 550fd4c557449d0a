"""
Many masters lost at once: the time until all are replaced, and the cost for the Sentinels and their clients.

``python -m benchmarks.mass_failure --masters 1000 --victims 1 100 400 1000 --down-after 5000 1000 --faults die
silence``

``python -m benchmarks.mass_failure --masters 1000 --victims 100 --down-after 5000 --faults die --core-share 1 0.5``

With ``--core-share`` below 1, :mod:`benchmarks.throttle` limits each Sentinel to that share of a core from one second
before the loss until the last agreement.

A promotion counts when the promoted stand-in executes SLAVEOF NO ONE; a Sentinel agrees when its +switch-master reaches
a subscriber. Meanwhile a client asks each Sentinel for an address every 20 ms. Its slowest reply is reported, and how
much of that time the client itself waited for a core. What is not done within the timeout is counted and has no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from benchmarks.gauges import cpu_seconds, resident_bytes
from benchmarks.installation import CALL_SECONDS, Installation, NotInTime, arguments, chosen_contenders, report_progress
from benchmarks.report import comparison, keep
from benchmarks.throttle import Throttle
from txsentinel.demo import Connection

FIGURES: Final = {
    "promoted_first": "first promotion, ms",
    "promoted_median": "half of them promoted, ms",
    "promoted_last": "all promoted, ms",
    "agreed_last": "all Sentinels agree on all, ms",
    "not_promoted": "not promoted in time",
    "not_agreed": "not agreed upon in time",
    "promoted_needlessly": "promoted without need",
    "tilts": "TILTs, all Sentinels",
    "lost_elections": "-failover-abort-not-elected, all Sentinels",
    "writes": "configuration writes of a Sentinel",
    "cpu": "CPU of a Sentinel, ms",
    "resident": "resident memory of a Sentinel, MB",
    "slowest_answer": "slowest answer of a Sentinel, ms",
    "client_waited": "... in which the client waited for a core, ms",
    "slow_answers": "answers after more than 100 ms, of a Sentinel",
}
"""The figures; times are since the loss of the first victim."""

FAULTS: Final = ("die", "silence")
STABILIZATION_SECONDS: Final = 400.0
SLOW_SECONDS: Final = 0.1
AFTERSHOCK_SECONDS: Final = 5.0
"""How long to watch for spurious switches after the failovers."""


@dataclass(frozen=True)
class MassFailure:
    """The parameters of a mass failure."""

    masters: int
    victims: int
    down_after: int
    fault: str
    core_share: float = 1.0
    """The share of a core that each Sentinel may use at most; 1 is no limit."""

    @property
    def title(self) -> str:
        """The parameters as text."""
        fault = {"die": "die", "silence": "fall silent"}[self.fault]
        limit = "" if self.core_share >= 1 else f", {self.core_share:.0%} of a core each"
        return f"{self.victims} of {self.masters} masters {fault}, down-after {self.down_after} ms{limit}"


def sample(installation: Installation, failure: MassFailure, timeout: float) -> dict[str, Any]:
    """
    One mass failure over a stable installation; the victims come back afterwards.

    :param timeout: seconds.
    :returns: ``figures``, by name a list of values; ``promoted`` and ``agreed``, the curves as lists of seconds and
        count; ``disagreements``, the number of victims for which the Sentinels do not name one living master in the
        end; and ``answers``, ``writes`` and ``began`` from the observer.
    """
    fleet, pids = installation.fleet, [sentinel.pid for sentinel in installation.sentinels]
    victims = installation.present_masters(failure.victims)
    with installation.observer() as observer, ExitStack() as throttling:
        if failure.core_share < 1:
            throttling.enter_context(Throttle(pids, failure.core_share))
        time.sleep(1.0)  # So that the client has asked every Sentinel before.
        before = [cpu_seconds(pid) for pid in pids]
        inject = fleet.crash if failure.fault == "die" else fleet.hang
        began, _ = inject(list(victims.values()))
        deadline = began + timeout
        while time.monotonic() < deadline and min(observer.switched(began).values()) < failure.victims:
            time.sleep(0.2)
        used = [cpu_seconds(pid) - early for pid, early in zip(pids, before, strict=True)]
        resident = [resident_bytes(pid) / 1e6 for pid in pids]
        seen = observer.report(began)
        throttling.close()
        time.sleep(AFTERSHOCK_SECONDS)
        disagreements = _disagreements(installation, list(victims))
        promoted = [event for event in fleet.events() if event["at"] >= began and event["what"] == "promoted"]
        aftershocks = observer.report(began)
    fleet.restart(list(victims.values()))
    firsts = _first_promotions(promoted, victims, began)
    agreed = _agreements(seen["events"], list(victims), [sentinel.name for sentinel in installation.sentinels], began)
    complete = len(firsts) == failure.victims
    slowest = [max(answers, key=itemgetter(1)) for answers in seen["answers"].values() if answers]
    channels = [channel for _, _, channel, _ in aftershocks["events"]]
    figures: dict[str, list[float]] = {
        "promoted_first": [firsts[0] * 1000] if firsts else [],
        "promoted_median": [statistics.median(firsts) * 1000] if complete else [],
        "promoted_last": [firsts[-1] * 1000] if complete else [],
        "agreed_last": [agreed[-1] * 1000] if len(agreed) == failure.victims else [],
        "not_promoted": [failure.victims - len(firsts)],
        "not_agreed": [failure.victims - len(agreed)],
        "promoted_needlessly": [len(promoted) - len(firsts)],
        "tilts": [channels.count("+tilt")],
        "lost_elections": [channels.count("-failover-abort-not-elected")],
        "writes": [float(len(moments)) for moments in seen["writes"].values()],
        "cpu": [seconds * 1000 for seconds in used],
        "resident": resident,
        "slowest_answer": [answer[1] * 1000 for answer in slowest],
        "client_waited": [answer[2] * 1000 for answer in slowest],
        "slow_answers": [
            float(sum(seconds > SLOW_SECONDS for _, seconds, _ in answers)) for answers in seen["answers"].values()
        ],
    }
    return {
        "figures": figures,
        "promoted": _curve(firsts),
        "agreed": _curve(agreed),
        "disagreements": disagreements,
        "answers": seen["answers"],
        "writes": seen["writes"],
        "began": began,
    }


def _first_promotions(promoted: Sequence[Mapping[str, Any]], victims: Mapping[str, str], began: float) -> list[float]:
    """Seconds until the first promotion for each victim that has one, in order."""
    firsts: dict[str, float] = {}
    for event in promoted:
        master = str(event["name"]).partition("r")[0]
        if master in victims:
            firsts.setdefault(master, event["at"] - began)
    return sorted(firsts.values())


def _agreements(
    events: Sequence[Sequence[Any]], victims: Sequence[str], sentinels: Sequence[str], began: float
) -> list[float]:
    """Seconds until the last Sentinel has switched, for each victim for which all have, in order."""
    firsts: dict[tuple[str, str], float] = {}
    for at, sentinel, channel, payload in events:
        if channel == "+switch-master":
            firsts.setdefault((sentinel, payload.split(" ", 1)[0]), at - began)
    moments = [[firsts.get((sentinel, victim)) for sentinel in sentinels] for victim in victims]
    return sorted(max(each for each in row if each is not None) for row in moments if None not in row)


def _curve(moments: Sequence[float]) -> list[list[float]]:
    return [[moment, index + 1] for index, moment in enumerate(moments)]


def _disagreements(installation: Installation, victims: Sequence[str]) -> int:
    answers = []
    for sentinel in installation.sentinels:
        with Connection(sentinel.port, timeout=CALL_SECONDS) as connection:
            for name in victims:
                connection.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            answers.append([connection.read_reply() for _ in victims])
    living = {
        state["address"]
        for state in installation.fleet.query().values()
        if state["state"] == "alive" and state["role"] == "master"
    }
    wrong = 0
    for row in zip(*answers, strict=True):
        named = {":".join(str(word) for word in answer) if isinstance(answer, list) else "" for answer in row}
        wrong += len(named) != 1 or not named <= living
    return wrong


def run(
    name: str,
    kinds: Sequence[str],
    failures: Sequence[MassFailure],
    timeout: float,
    report_progress: Callable[[str], None],
    before: Callable[[Installation], None] | None = None,
) -> list[dict[str, Any]]:
    """
    Run a series of mass failures with one contender.

    Afterwards the victims come back. If the installation does not become stable in time, a new one is started.

    :param before: called once with the first stable installation.
    :returns: per mass failure what :func:`sample` returns, or ``problem``.
    """
    outcomes: list[dict[str, Any]] = []
    with ExitStack() as stack:
        installation: Installation | None = None
        for failure in failures:
            try:
                if installation is not None:
                    try:
                        installation.wait_stable(2 * timeout)
                    except NotInTime as problem:
                        report_progress(f"{name}: {problem}; starting anew")
                        stack.close()
                        installation = None
                if installation is None:
                    installation = stack.enter_context(
                        Installation(kinds, failure.masters, down_after=failure.down_after)
                    )
                    installation.start()
                    installation.wait_stable(STABILIZATION_SECONDS)
                    if before is not None:
                        before(installation)
                        before = None
                outcome = sample(installation, failure, timeout)
                report_progress(f"{failure.title}, {name}: {_short(outcome)}")
            except NotInTime as problem:
                outcome = {"problem": str(problem)}
                report_progress(f"{failure.title}, {name}: {problem}")
                stack.close()
                installation = None
            outcomes.append(outcome)
    return outcomes


def _short(outcome: Mapping[str, Any]) -> str:
    figures: dict[str, list[float]] = outcome["figures"]
    words = []
    for figure in ("promoted_last", "agreed_last", "not_promoted", "not_agreed", "tilts", "slowest_answer"):
        if figures[figure]:
            words.append(f"{figure.replace('_', ' ')} {max(figures[figure]):.0f}")
    return ", ".join([*words, f"disagreements {outcome['disagreements']}"])


def gather(
    failures: Sequence[MassFailure], outcomes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """
    Group the outcomes of all contenders by mass failure.

    Each entry has the fields of the mass failure, ``contenders`` (outcomes), ``curves`` and ``agreement curves``: by
    name a list of pairs of seconds and the number of masters replaced, or agreed upon, by then.
    """
    entries = []
    for index, failure in enumerate(failures):
        found = {name: dict(each[index]) for name, each in outcomes.items()}
        entries.append(
            {
                **vars(failure),
                "title": failure.title,
                "contenders": found,
                "curves": {name: each.pop("promoted", []) for name, each in found.items()},
                "agreement curves": {name: each.pop("agreed", []) for name, each in found.items()},
            }
        )
    return entries


def measure(
    contenders: Mapping[str, Sequence[str]],
    masters: int,
    victims: Sequence[int],
    down_afters: Sequence[int] = (5000, 1000),
    faults: Sequence[str] = FAULTS,
    timeout: float = 120.0,
    report_progress: Callable[[str], None] = report_progress,
    core_shares: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """
    Run every mass failure with every contender.

    :param victims: the number of masters lost at once; larger numbers than there are count as all.
    :param down_afters: milliseconds.
    :param faults: ``die`` (connections are reset) and ``silence`` (nothing is answered any more).
    :param timeout: seconds after which the rest of a mass failure is not waited for.
    :param core_shares: the shares of a core that each Sentinel may use, above 0; 1 is no limit.
    :returns: ``mass failures``, as :func:`gather` returns them.
    """
    entries = []
    for down_after in down_afters:
        counts = sorted({min(count, masters) for count in victims})
        failures = [
            MassFailure(masters, count, down_after, fault, share)
            for share in core_shares
            for fault in faults
            for count in counts
        ]
        outcomes = {name: run(name, kinds, failures, timeout, report_progress) for name, kinds in contenders.items()}
        entries += gather(failures, outcomes)
    return {"mass failures": entries}


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print."""
    parts = []
    for entry in result["mass failures"]:
        contenders: dict[str, Any] = entry["contenders"]
        samples = {name: each["figures"] for name, each in contenders.items() if "problem" not in each}
        parts.append(f"{entry['title']}: since the loss, median (min–max) of the Sentinels\n")
        if samples:
            parts.append(comparison(FIGURES, samples))
        for name, each in contenders.items():
            if "problem" in each:
                parts.append(f"{name}: {each['problem']}")
            elif each["disagreements"]:
                parts.append(f"{name}: no agreement on a living master for {each['disagreements']}")
        parts.append("")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = arguments("mass-failure", __doc__.split("\n\n")[0], [1000])
    parser.add_argument("--victims", type=int, nargs="+", default=[1, 100, 400, 1000], metavar="N")
    parser.add_argument("--down-after", type=int, nargs="+", default=[5000, 1000], metavar="MS")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=FAULTS)
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--core-share", type=float, nargs="+", default=[1.0], metavar="SHARE")
    options = parser.parse_args(argv)
    contenders = chosen_contenders(options.contenders, report_progress)
    entries: list[dict[str, Any]] = []
    for masters in options.masters:
        result = measure(
            contenders,
            masters,
            options.victims,
            options.down_after,
            options.faults,
            options.timeout,
            core_shares=options.core_share,
        )
        print(f"\n{table(result)}", flush=True)
        entries += result["mass failures"]
        if options.json:
            keep(Path(options.json), {"mass failures": entries})


if __name__ == "__main__":
    main()
