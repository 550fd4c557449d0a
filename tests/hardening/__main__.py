"""
Attack a running Sentinel: ``python -m tests.hardening``, or ``make hardening``.

Prints the parts and their results; fails if a Sentinel ended, lost acknowledged changes, or grew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from tests.hardening import churn, commands, crashes, stalls

PARTS = ("commands", "crashes", "churn", "stalls")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hardening", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="what to try; everything if left out")
    parser.add_argument("--kind", default="txsentinel", help="which Sentinel: txsentinel, compiled, redis, valkey, ...")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_007)
    parser.add_argument("--commands", type=int, default=50_000, help="random requests")
    parser.add_argument("--kills", type=int, default=50, help="times that it is killed")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long clients come and go")
    parser.add_argument("--words", type=int, default=400_000, help="words of the long requests")
    parser.add_argument("--growth", type=float, default=5.0, help="megabytes that churn may leave")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


def main() -> int:
    """Run the parts; return the exit status."""
    options = parse_arguments()
    parts = options.parts or PARTS
    print(f"seed {options.seed}", flush=True)
    figures: dict[str, object] = {"kind": options.kind, "seed": options.seed}
    faults = []
    if "commands" in parts:
        tried = commands.run(options.kind, options.commands, options.seed)
        figures["commands"] = asdict(tried)
        print(f"{tried.requests} random requests in {tried.seconds:.0f} s: {tried}", flush=True)
        if tried.tracebacks:
            faults.append(f"{tried.tracebacks} tracebacks in the log")
    if "crashes" in parts:
        killed = crashes.run(options.kind, options.kills, options.seed)
        figures["crashes"] = asdict(killed)
        print(f"{killed.kills} kills, {killed.acknowledged} changes acknowledged, lost: {killed.lost or 'none'};"
              f" {killed.leftovers} temporary files left", flush=True)  # fmt: skip
        faults += killed.lost
    if "churn" in parts:
        gone = churn.run(options.kind, options.minutes * 60, options.seed)
        figures["churn"] = {**asdict(gone), "grown_megabytes": gone.grown_megabytes}
        print(
            f"{gone.connections} connections in {gone.seconds:.0f} s: {gone.megabytes_first:.1f} MB after a third,"
            f" {gone.megabytes_last:.1f} MB at the end;"
            f" descriptors {gone.descriptors_first}, {gone.descriptors_last}",
            flush=True,
        )
        if gone.grown_megabytes > options.growth:
            faults.append(f"grew by {gone.grown_megabytes:.1f} MB")
    if "stalls" in parts:
        waited = stalls.run(options.kind, options.words)
        figures["stalls"] = [asdict(each) for each in waited]
        for each in waited:
            print(
                f"{each.name:38} slowest PING {each.slowest_ping * 1000:6.0f} ms, {each.seconds:5.1f} s until answered"
                f"{'' if each.answered else ' (not answered)'}, +{each.grown_megabytes:.0f} MB"
                f"{', TILT' if each.tilt else ''}",
                flush=True,
            )
            if each.tilt or not each.answered:
                faults.append(f"{each.name}: {'TILT' if each.tilt else 'no answer'}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    for fault in faults:
        print(f"FAULT: {fault}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
