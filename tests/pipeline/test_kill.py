#!/usr/bin/env python3
"""A whole run of the real daemons; then the same run with kill -9 of each daemon once in each phase. The second must complete,
account for every position, and end with the same label table and checkpoint, bit for bit. usage: test_kill.py BIN_DIR"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, make_manifest, outcome_differs, write_config  # noqa: E402
LASTING = ("--set", "stats.clips=80", "--set", "stats.batches=12")  # enough for the bursts below


class Kills:
    """A live run whose decoder goes in bursts, so that a phase lasts until each daemon has been killed in it."""

    def __init__(self, place, run):
        self.place, self.run = place, run

    def pid(self, name):
        return self.place.wait(f"{name} answers", lambda: self.place.status(name), 60)["pid"]

    def phase(self):
        assert self.run.poll() is None, "the run ended too early: " + self.run.stdout.read()
        s = self.place.status("trainer-0")
        return s["phase"] if s else None

    def signal(self, pid, sig):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass  # it has just been restarted; the next burst finds the new one

    def advance(self, wanted):
        """Lets the decoder work in bursts until the trainer is in the phase, and leaves it stopped. The bursts grow: where other
        tests have the cores it does little in one, being the one that gives way."""
        start = time.monotonic()
        while time.monotonic() < start + 180:
            decoder = self.place.status("decoder-0") if self.phase() != wanted else None
            if self.phase() == wanted:
                return
            if decoder:
                self.decoder = decoder["pid"]
            self.signal(self.decoder, signal.SIGCONT)
            time.sleep(0.02 + (time.monotonic() - start) / 250)
            if wanted != "labels":
                self.signal(self.decoder, signal.SIGSTOP)
        raise AssertionError(f"phase {wanted} is not reached")

    def kill(self, name, pid, wanted):
        self.signal(pid, signal.SIGKILL)
        self.place.wait(f"{name} is back", lambda: (self.place.status(name) or {"pid": pid})["pid"] != pid, 60)
        print(f"killed {name} in {wanted}", flush=True)

    def kill_all_in(self, wanted):
        self.decoder = self.pid("decoder-0")
        clusterer = self.pid("clusterer")
        if wanted == "labels":
            self.signal(clusterer, signal.SIGSTOP)  # the labels do not come before it is killed, last
            for name in ("decoder-0", "trainer-0"):
                self.advance(wanted)
                self.kill(name, self.pid(name), wanted)
            self.advance(wanted)
            self.kill("clusterer", clusterer, wanted)
            return
        self.advance(wanted)
        self.kill("clusterer", clusterer, wanted)
        self.advance(wanted)
        self.kill("trainer-0", self.pid("trainer-0"), wanted)
        self.advance(wanted)
        self.kill("decoder-0", self.decoder, wanted)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=60)
    calm, killed = place.path("calm"), place.path("killed")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *LASTING)
    print("undisturbed:", check_ledger(calm, 4, 1), flush=True)

    config = write_config(place, manifest, killed, "killed.yaml")
    run = place.start("xdc", "run", "-c", config, *LASTING)
    kills = Kills(place, run)
    for wanted in ("stats", "warm", "extract", "labels", "train"):
        kills.kill_all_in(wanted)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    print("killed:", check_ledger(killed, 4, 1))
    differs = outcome_differs(calm, killed)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    assert "is finished" in place.xdc("run", "-c", config, *LASTING).stdout
    place.close()


main()
