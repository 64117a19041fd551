"""`python -m tests.faults`: break things, print a table of what held, and end with 1 when anything did not."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.faults.table import FAULTS
from tests.faults.world import Outcome, World


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--n", type=int, help="how often each fault is done (default: its full count)")
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--out", type=Path, help="write the outcomes there as JSON, after each fault")
    parser.add_argument("--keep", action="store_true", help="keep the home folders (logs, databases)")
    args = parser.parse_args()
    outcomes = []
    for name in args.only or FAULTS:
        outcomes.append(_one(name, args.n or FAULTS[name].full, args.seed, args.keep))
        print(row(outcomes[-1]), flush=True)
        if args.out:
            args.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    print("\n| fault | times | held | counts | minutes |\n|---|---|---|---|---|")
    for outcome in outcomes:
        print(row(outcome))
    return 0 if all(outcome.held for outcome in outcomes) else 1


def _one(name: str, times: int, seed: int, keep: bool) -> Outcome:
    fault, start = FAULTS[name], time.monotonic()
    folder = tempfile.mkdtemp(prefix=f"bcd-faults-{name}-")

    def say(text: str) -> None:
        print(f"  [{name} {time.monotonic() - start:5.0f} s] {text}", file=sys.stderr, flush=True)

    say(f"home {folder}")
    with fault.around() as setting:
        world = World(Path(folder), say, seed=seed, **setting.settings)
        try:
            with world:
                outcome = fault.run(world, times, **setting.more)
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome(name, times, broken=[f"the fault could not be played to its end: {error!r}"])
    left = world.tree.processes()
    if left:
        outcome.broken.append(f"I7 {len(left)} processes are left after everything was stopped")
    outcome.seconds = time.monotonic() - start
    for one in outcome.broken:
        say(f"BROKEN: {one}")
    if not keep and outcome.held:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def row(outcome: Outcome) -> str:
    counts = ", ".join(f"{value:g} {key}" for key, value in outcome.counts.items())
    held = "yes" if outcome.held else f"**no**: {'; '.join(outcome.broken[:3])}"
    return f"| {outcome.name} | {outcome.times} | {held} | {counts} | {outcome.seconds / 60:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
