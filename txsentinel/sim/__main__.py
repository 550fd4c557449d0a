"""``python -m txsentinel.sim``: run seeds, print what went wrong, and how to see it again."""

from __future__ import annotations

import argparse
import sys
import time

from txsentinel.sim.run import Outcome, run_seed


def main() -> int:
    """Run the seeds that the command line names; the exit status is the number of failing ones, 100 at most."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--seconds", type=float, default=180.0, help="world seconds of faults per seed")
    parser.add_argument("--transcript", action="store_true", help="print what every Sentinel logged")
    options = parser.parse_args()
    started = time.monotonic()
    failing = 0
    simulated = failovers = faults = 0.0
    for seed in range(options.seed, options.seed + options.seeds):
        outcome = run_seed(seed, options.seconds)
        simulated += outcome.seconds
        failovers += outcome.failovers
        faults += len(outcome.faults)
        if outcome.wrong or options.transcript:
            _write(report(outcome, options.seconds, whole=options.transcript))
        failing += bool(outcome.wrong)
    took = time.monotonic() - started
    _write(
        f"{options.seeds} seeds, {simulated / 3600:.2f} simulated hours, {faults:.0f} faults, {failovers:.0f} "
        f"promotions, {failing} failing; {simulated / took:.0f} simulated seconds per second"
    )
    return min(failing, 100)


def report(outcome: Outcome, seconds: float, *, whole: bool = False) -> str:
    """What a failing seed did wrong, its last minute, its faults, and the command that shows it again."""
    lines = [f"seed {outcome.seed}: {outcome.shape}"]
    lines += [f"  {at:10.3f}  fault        {what}" for at, what in outcome.faults]
    since = 0.0 if whole else max(0.0, outcome.interesting_from - 60.0)
    lines += [f"  {line}" for line in outcome.lines if line.at >= since]
    lines += [f"  WRONG: {wrong}" for wrong in outcome.wrong]
    lines.append(f"  again: python -m txsentinel.sim --seed {outcome.seed} --seconds {seconds:g} --transcript")
    return "\n".join(lines)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
