#!/usr/bin/env python3
"""A clusterer with a directory of its own, over tcp, that has no share in the run's directory: its tables are those of a clusterer that has
one, byte for byte. Then with a dump of two ranks that is large enough to be cut off: the clusterer is killed in the middle of a pull, and
goes on from the blocks it has, and the trainer is. usage: test_remote.py BIN_DIR"""
import glob
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import TINY, Place, make_manifest, outcome_differs, same_file, write_config  # noqa: E402

BIG = """
run: {dir: RUN, seed: 3, ranks: 2}
data: {manifest: MANIFEST}
method: xdc
cluster: {k: 4, restarts: 1, iterations: 2, interval_s: 0.1, threads: 1}
endpoints: {features: "tcp://127.0.0.1:FEATURES", labels: "tcp://127.0.0.1:LABELS"}
"""


def free_ports(n):
    """The first of n ports in a row that nobody has."""
    for first in range(20000 + os.getpid() % 20000, 60000, n):
        held = []
        try:
            for port in range(first, first + n):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", port))
            return first
        except OSError:
            pass
        finally:
            for s in held:
                s.close()
    raise AssertionError("no free ports")


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def start_remote(place, config, elsewhere):
    """The clusterer as on a host that has the configuration and the manifest, but not the run's directory."""
    return place.start("xdc-clusterer", "-c", config, "--set", "run.dir=" + place.path("nowhere"), "--set", "cluster.dir=" + elsewhere)


def whole_run(place):
    """Two rounds and the last clustering, by the real daemons."""
    manifest, ports = make_manifest(place), free_ports(2)
    text = TINY.replace("epochs: 2", "epochs: 1")
    local, remote, elsewhere = place.path("local"), place.path("remote"), place.path("elsewhere")
    place.xdc("run", "-c", write_config(place, manifest, local, "local.yaml", text))
    text += f'endpoints: {{features: "tcp://127.0.0.1:{ports}", labels: "tcp://127.0.0.1:{ports + 1}"}}\n'
    config = write_config(place, manifest, remote, "remote.yaml", text)
    clusterer = start_remote(place, config, elsewhere)
    place.xdc("run", "-c", config, "--set", "run.clusterer=false")
    out, _ = clusterer.communicate(timeout=30)
    assert clusterer.returncode == 0 and "the run is finished" in out, out
    differs = outcome_differs(local, remote)
    assert not differs, f"not equal to a run on one host: {differs}\n{out}"
    for r in range(3):
        tables = [os.path.join(d, "labels", f"round-{r:04d}.xdcl") for d in (local, remote, elsewhere)]
        assert same_file(tables[0], tables[1]) and same_file(tables[0], tables[2]), f"the tables of round {r} differ"
    assert not os.path.exists(place.path("nowhere")), "the run's directory was made"
    kept = sorted(os.path.basename(p) for p in glob.glob(os.path.join(elsewhere, "features", "*")))
    assert kept == ["round-0001", "round-0002"], f"replicas: {kept}"
    left = glob.glob(os.path.join(remote, "labels", "*.part")) + glob.glob(os.path.join(elsewhere, "labels", "*.part"))
    assert not left, left
    print("a whole run: equal", flush=True)


def pull_of(place):
    return (place.status("clusterer") or {}).get("pull") or {}


class Big:
    """A dump of two ranks, and the table that a clusterer in the run's directory makes of it."""

    def __init__(self, place):
        self.place, self.run, ports = place, place.path("big"), free_ports(3)
        text = BIG.replace("FEATURES", str(ports)).replace("LABELS", str(ports + 2))
        self.config = write_config(place, place.path("big.lmdb"), self.run, "big.yaml", text)
        for arguments in [("manifest", place.path("big.lmdb"), 40000)] + [("seal", self.config, 0, r, 2, 256) for r in (0, 1)]:
            made = place.start("big_dump", *arguments)
            assert made.wait(60) == 0, made.stdout.read()
        self.table, self.right = os.path.join(self.run, "labels", "round-0000.xdcl"), place.path("right.xdcl")
        clusterer = place.start("xdc-clusterer", "-c", self.config)
        place.wait("the table of one host", lambda: os.path.exists(self.table))
        kill(clusterer)
        os.rename(self.table, self.right)

    def start_rank(self, rank):
        return self.place.start("after_dump", self.config, 0, rank)

    def half_pulled(self, clusterer):
        """The progress of a pull once some of a shard is here, but not all; None when all of both came in between two looks."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            assert clusterer.poll() is None, clusterer.stdout.read()
            p = pull_of(self.place)
            if p.get("state") == "blocks" and 12 <= p["done"] < p["total"] - 4:
                return p
            if p.get("replicas") == 2:
                return None
        raise AssertionError(f"never in the middle of a pull: {p}")

    def kill_half_pulled(self):
        """A directory in which a killed clusterer has left half a shard, and which rank's."""
        for i in range(20):
            elsewhere = self.place.path(f"elsewhere-{i}")
            clusterer = start_remote(self.place, self.config, elsewhere)
            p = self.half_pulled(clusterer)
            kill(clusterer)
            if p and len(glob.glob(os.path.join(elsewhere, "features", "round-0000", "rank-*.tmp"))) == 1:
                return elsewhere, p
        raise AssertionError("20 clusterers were too fast")


def cut_off(place, big):
    """The clusterer is killed in the middle of a pull; its next one goes on; a rank is killed and started again."""
    ranks = [big.start_rank(0), big.start_rank(1)]
    elsewhere, before = big.kill_half_pulled()
    assert not os.path.exists(big.table), "the labels came before the clusterer was killed"
    kill(ranks[before["rank"]])
    clusterer = start_remote(place, big.config, elsewhere)
    place.wait("the next clusterer", lambda: place.status("clusterer"))
    ranks[before["rank"]] = big.start_rank(before["rank"])
    place.wait("blocks come again", lambda: pull_of(place).get("blocks"))
    kill(ranks[1])
    ranks[1] = big.start_rank(1)
    place.wait("the table in the run's directory", lambda: os.path.exists(big.table))
    assert same_file(big.table, big.right), "the table that came over differs"
    assert same_file(os.path.join(elsewhere, "labels", "round-0000.xdcl"), big.right), "the remote table differs"
    pulled = pull_of(place)
    said = place.xdc("status", elsewhere).stdout
    assert "clusterer" in said and "does not answer" not in said, said
    status, out = place.stop(clusterer)
    assert status == 0 and "goes on" in out, out
    assert pulled["blocks"] <= 80 - before["done"] and pulled["refused"] == 0, f"of 80 blocks: {pulled}"
    for r in ranks:
        kill(r)
    print(f"cut off at block {before['done']} of {before['total']}, went on, {pulled['blocks']} blocks came later", flush=True)


def main():
    place = Place(sys.argv[1])
    big = Big(place)
    cut_off(place, big)
    whole_run(place)
    place.close()


main()
