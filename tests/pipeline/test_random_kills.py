#!/usr/bin/env python3
"""kill -9 of daemons and media workers at random moments, with one, two and four decoders: every run completes, accounts for every
position and ends with the undisturbed run's label table and checkpoint, bit for bit. usage: test_random_kills.py BIN_DIR [SEED]
10 kills; with XDC_LONG=1 50."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import XDC_LONG, Place, check_ledger, descendants, make_manifest, outcome_differs, write_config  # noqa: E402


def name_of(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        return ""


def kill_one(run, rng):
    """Kills a random process of the run, the kinds alike in chance; its name, or None when there was none."""
    by_name = {}
    for pid in descendants(run.pid):
        name = name_of(pid)
        if name.startswith("xdc-"):
            by_name.setdefault(name, []).append(pid)
    if not by_name:
        return None
    name = rng.choice(sorted(by_name))
    try:
        os.kill(rng.choice(sorted(by_name[name])), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return name


def disturbed(place, manifest, decoders, run_dir, rng, wanted):
    """One run to its end with up to `wanted` kills; how many there were."""
    config = write_config(place, manifest, run_dir, os.path.basename(run_dir) + ".yaml")
    run = place.start("xdc", "run", "-c", config, "--set", f"run.decoders={decoders}")
    killed = []
    while run.poll() is None and len(killed) < wanted:
        time.sleep(rng.uniform(0.3, 2.5))
        name = kill_one(run, rng) if run.poll() is None else None
        killed += [name] if name else []
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, f"decoders {decoders}, killed {killed}:\n{out}"
    print(f"{decoders} decoders, killed {', '.join(killed)}: {check_ledger(run_dir, 4, 1)}", flush=True)
    return len(killed)


def main():
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    left = 50 if XDC_LONG else 10
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=60)
    calm = place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"))
    print("undisturbed:", check_ledger(calm, 4, 1), flush=True)
    number, quiet = 0, 0
    while left > 0 or number < 3:
        decoders = (1, 2, 4)[number % 3]
        run_dir = place.path(f"killed-{number}")
        n = disturbed(place, manifest, decoders, run_dir, rng, min(left, 6) if number > 1 else min(left, 4))
        differs = outcome_differs(calm, run_dir)
        assert not differs, f"run {number} with {decoders} decoders is not equal to the undisturbed one: {differs}"
        left, number, quiet = left - n, number + 1, quiet + (n == 0)
        assert quiet < 3, "the runs end before anything can be killed"
    place.close()


main()
