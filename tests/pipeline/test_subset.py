#!/usr/bin/env python3
"""data.subset: a run trains on so many videos of the training split and on no others; with the same seed a larger subset has all of a
smaller one, another seed draws others; more than there are is refused. usage: test_subset.py BIN_DIR"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, log_of, make_manifest, read_ledger, sets, write_config  # noqa: E402

VIDEOS, TRAINED = 24, 1
SHORT = {"train.rounds": 1, "train.epochs": 1, "train.batch": 2, "cluster.k": 2}


def trained(place, manifest, name, **subset):
    run = place.path(name)
    options = {**SHORT, **{f"data.subset.{k}": v for k, v in subset.items()}}
    place.xdc("run", "-c", write_config(place, manifest, run, name + ".yaml"), *sets(options))
    assert f"{subset['n']} of" in log_of(run, "trainer-0")
    return {r[2] for records in read_ledger(run).values() for r in records if r[6] == TRAINED}


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=VIDEOS, flaws=False)
    few, more, other = (trained(place, manifest, name, n=n, seed=seed) for name, n, seed in (("few", 4, 1), ("more", 8, 1), ("other", 4, 2)))
    assert (len(few), len(more), len(other)) == (4, 8, 4), (few, more, other)
    assert few < more and few != other, (few, more, other)

    run = place.path("refused")
    p = place.start("xdc-trainer", "-c", write_config(place, manifest, run, "refused.yaml"), *sets({"data.subset.n": VIDEOS + 1}))
    said, _ = p.communicate(timeout=60)
    assert p.returncode == 78 and f"data.subset.n is {VIDEOS + 1}" in said, (p.returncode, said)
    place.close()


main()
