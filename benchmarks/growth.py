"""
How cost and duration grow with the number of masters: a quiet period, then mass failures, over fleets of several sizes.

``python -m benchmarks.growth --masters 100 200 400 1000 --share 0.1 --down-after 5000``

Each contender has one installation per size, which is measured quiet (:mod:`benchmarks.quiet`) and then goes through
the mass failures (:mod:`benchmarks.mass_failure`), in each of which the given share of the masters dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import mass_failure, quiet
from benchmarks.installation import Installation, arguments, chosen_contenders, report_progress
from benchmarks.report import comparison, keep

FIGURES: Final = {
    **quiet.FIGURES,
    **{
        name: mass_failure.FIGURES[name]
        for name in ("promoted_last", "agreed_last", "not_agreed", "tilts", "slowest_answer")
    },
    "failure_cpu": "CPU of a Sentinel during the mass failure, ms",
}


def measure(
    contenders: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
    shares: Sequence[float] = (0.1,),
    down_after: int = 5000,
    seconds: float = 30.0,
    timeout: float = 120.0,
    report_progress: Callable[[str], None] = report_progress,
) -> dict[str, Any]:
    """
    Measure all contenders with every size.

    :param sizes: numbers of masters, with one replica each.
    :param shares: the shares of the masters that die at once, one per mass failure.
    :param down_after: milliseconds.
    :param seconds: duration of the quiet measurement.
    :param timeout: seconds after which the rest of a mass failure is not waited for.
    :returns: ``quiet`` and ``mass failures`` as those modules return them, with the mass failures of all sizes.
    """
    quiet_entries: list[dict[str, Any]] = []
    failure_entries: list[dict[str, Any]] = []
    for masters in sizes:
        failures = [
            mass_failure.MassFailure(masters, max(1, round(masters * share)), down_after, "die") for share in shares
        ]
        found: dict[str, dict[str, Any]] = {}
        outcomes = {}
        for name, kinds in contenders.items():
            quiet_figures: dict[str, Any] = {}
            outcomes[name] = mass_failure.run(
                name, kinds, failures, timeout, report_progress, _quiet_into(quiet_figures, seconds)
            )
            found[name] = quiet_figures or {"problem": "did not become stable"}
            report_progress(
                f"{masters} masters, {name}: {quiet.short(quiet_figures) if quiet_figures else 'did not become stable'}"
            )
        quiet_entries.append({"masters": masters, "contenders": found})
        failure_entries += mass_failure.gather(failures, outcomes)
    return {"quiet": quiet_entries, "mass failures": failure_entries}


def _quiet_into(found: dict[str, Any], seconds: float) -> Callable[[Installation], None]:
    return lambda installation: found.update(quiet.sample(installation, seconds))


def table(result: Mapping[str, Any]) -> str:
    """The measurements, ready to print: per contender, one column per size."""
    sizes = [entry["masters"] for entry in result["quiet"]]
    shares = max(1, len(result["mass failures"]) // max(1, len(sizes)))
    parts = []
    for name in result["quiet"][0]["contenders"] if result["quiet"] else ():
        for index in range(shares):
            columns: dict[str, dict[str, Any]] = {}
            for place, entry in enumerate(result["quiet"]):
                failures = result["mass failures"][place * shares + index]
                outcome = failures["contenders"][name]
                figures = dict(outcome.get("figures", {}))
                figures["failure_cpu"] = figures.pop("cpu", [])
                rest = {key: value for key, value in entry["contenders"][name].items() if key != "problem"}
                columns[f"{failures['victims']} of {entry['masters']}"] = {**figures, **rest}
            parts += [f"{name}, by how many of the masters die; ratios to the first column\n"]
            parts += [comparison(FIGURES, columns), ""]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = arguments("growth", __doc__.split("\n\n")[0], [100, 200, 400, 1000])
    parser.add_argument("--share", type=float, nargs="+", default=[0.1], help="of the masters that die at once")
    parser.add_argument("--down-after", type=int, default=5000, metavar="MS")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the quiet while is measured")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    contenders = chosen_contenders(options.contenders, report_progress)
    result = measure(contenders, options.masters, options.share, options.down_after, options.seconds, options.timeout)
    print(f"\n{table(result)}")
    if options.json:
        keep(Path(options.json), result)


if __name__ == "__main__":
    main()
