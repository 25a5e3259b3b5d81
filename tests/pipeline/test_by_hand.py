#!/usr/bin/env python3
"""The daemons by hand instead of `xdc run`: in any order, and with two decoders. The outcome is the same, bit for bit. Then what they
tell about themselves, and that SIGTERM ends each. usage: test_by_hand.py BIN_DIR"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, check_ledger, make_manifest, outcome_differs, write_config  # noqa: E402


def by_hand(place, manifest, calm, name, programs):
    run = place.path(name)
    config = write_config(place, manifest, run, name + ".yaml")
    started = []
    for program, *args in programs:
        process = place.start(program, "-c", config, *args)
        daemon = {"xdc-trainer": "trainer-0", "xdc-clusterer": "clusterer"}.get(program, "decoder-" + (args or "00")[-1])
        started.append((daemon, process))
        if (program, *args) != programs[-1]:  # the last one may end the run before it could be asked
            place.wait(f"{daemon} answers", lambda: place.status(daemon), 60)
    for daemon, process in started:
        out, _ = process.communicate(timeout=180)
        assert process.returncode == 0 and "the run is finished" in out, f"{name}: {daemon}: {process.returncode}\n{out}"
    check_ledger(run, 4, 1)
    differs = outcome_differs(calm, run)
    assert not differs, f"{name}: not equal to xdc run: {differs}"
    print(name, "is equal to xdc run", flush=True)


def two_decoders(place, manifest, calm):
    run = place.path("two")
    place.xdc("run", "-c", write_config(place, manifest, run, "two.yaml"), "--set", "run.decoders=2")
    check_ledger(run, 4, 1)
    assert os.path.exists(os.path.join(run, "logs", "decoder-1.log"))
    differs = outcome_differs(calm, run)
    assert not differs, f"two decoders: not equal to one: {differs}"


NAMES = ("clusterer", "decoder-0", "trainer-0")


def check_answers(place, run, pids):
    said = place.xdc("status", run).stdout
    every = json.loads(place.xdc("status", run, "--json").stdout)
    assert sorted(every) == sorted(NAMES), every
    for name in NAMES:
        assert name in said and "does not answer" not in said, said
        assert every[name]["pid"] == pids[name], (every[name], pids)
        assert place.get(name, "/healthz")[0] == 200
        http, text = place.get(name, "/metrics")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert http == 200 and len(lines) >= 5, (http, text)
        for line in lines:
            assert line.startswith("xdc_"), line
            float(line.rsplit(" ", 1)[1])
        assert place.get(name, "/nonsense")[0] == 404
    assert every["trainer-0"]["phase"] == "train" and every["trainer-0"]["rounds"] == 50, every["trainer-0"]
    assert [d["slots"] > 0 for d in every["trainer-0"]["decoders"]] == [True], every["trainer-0"]


def ask_and_stop(place, manifest):
    """An endless run: what all daemons answer, and then SIGTERM for each, the trainer first."""
    run = place.path("endless")
    config = write_config(place, manifest, run, "endless.yaml")
    args = ("-c", config, "--set", "train.rounds=50", "--set", "train.epochs=200")
    daemons = {name: place.start("xdc-" + name.split("-")[0], *args) for name in NAMES}
    place.training(daemons["trainer-0"])
    check_answers(place, run, {name: p.pid for name, p in daemons.items()})
    for name, expected in (("trainer-0", 75), ("clusterer", 0), ("decoder-0", 0)):
        status, said = place.stop(daemons[name], 30)
        assert status == expected, f"{name}: {status}, expected {expected}\n{said}"
        assert not place.status(name), f"{name} has left its socket"
    assert not place.processes(), place.processes()
    said = place.xdc("status", run, expect=69).stdout
    assert "no daemon" in said or "does not answer" in said, said


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place)
    calm = place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"))
    by_hand(place, manifest, calm, "trainer-last", [("xdc-clusterer",), ("xdc-decoder",), ("xdc-trainer",)])
    by_hand(place, manifest, calm, "trainer-first", [("xdc-trainer",), ("xdc-decoder", "--index", "1"), ("xdc-clusterer",)])
    two_decoders(place, manifest, calm)
    print("two decoders are equal to one", flush=True)
    ask_and_stop(place, manifest)
    place.close()


main()
