#!/usr/bin/env python3
"""Features kept along a round's last epoch: extractions compute only the clips that were not trained in it, the others' rows are those of
the training, and the file is gone when the dump is sealed. A run whose trainer is killed while it keeps them and while it puts them
into the dump ends as an undisturbed one, bit for bit, over two ranks too. What makes no sense, or finds no room, is refused.
usage: test_harvest.py BIN_DIR"""
import ast
import json
import math
import os
import re
import signal
import sys
import time
from array import array

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (Place, log_of, make_manifest, outcome_differs, read_ledger, same_file, sets,  # noqa: E402
                     write_config)

TRAINED = 1
VIDEOS, PER_VIDEO, EPOCH_CLIPS, BATCH = 28, 2, 32, 8
BATCHES = EPOCH_CLIPS // BATCH
# An epoch is a slice of the clips, and some are held out: neither of these leaves features.
PLAIN = {"data.clips_per_video": PER_VIDEO, "train.epoch_clips": EPOCH_CLIPS, "train.holdout": 0.2, "train.holdout_min_clips": VIDEOS}
HARVEST = {**PLAIN, "train.harvest": "true"}


def events(run, kind):
    return [e for e in map(json.loads, open(os.path.join(run, "events.jsonl"))) if e["event"] == kind]


def extractions(run):
    """Of each round the last one that was told."""
    return {e["round"]: (e["clips"], e["harvested"]) for e in events(run, "extract")}


def features(place, run, round_, modality):
    """{clip: its row} of those that are there."""
    path = place.path("f.npy")
    place.xdc("features", run, "--round", round_, "--modality", modality, "--out", path)
    data = open(path, "rb").read()
    end = 10 + int.from_bytes(data[8:10], "little")
    clips, dim = ast.literal_eval(data[10:end].decode())["shape"]
    values = array("f", data[end:])
    rows = (values[i * dim:(i + 1) * dim] for i in range(clips))
    return {i: row for i, row in enumerate(rows) if not math.isnan(row[0])}


def kept_clips(run, round_, size):
    """What the last epoch of a round must have kept: the clips that were trained, but of a batch in which one pass over the `size` clips
    ends and another begins only the latter's."""
    epoch = 2 * round_ + 1
    passes = lambda position: (EPOCH_CLIPS + position) // size  # noqa: E731
    return {r[2] for r in read_ledger(run)[epoch] if r[6] == TRAINED and passes(r[1]) == passes(r[1] // BATCH * BATCH + BATCH - 1)}


def told(run, rank, round_):
    """(harvested, clips) that the log has of a rank's share."""
    found = re.search(rf"round {round_}: features of (\d+) of (\d+) clips are harvested", log_of(run, f"trainer-{rank}"))
    return int(found[1]), int(found[2])


def harvest_file(run, round_):
    return os.path.join(run, "harvest", f"round-{round_:04d}.rows")


def undisturbed(place, manifest):
    """What is trained is not computed again, and all else is; against a run without, whose first training is the same."""
    plain, calm = place.path("plain"), place.path("calm")
    place.xdc("run", "-c", write_config(place, manifest, plain, "plain.yaml"), *sets({**PLAIN, "train.rounds": 1}))
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *sets(HARVEST))
    everything = extractions(calm)[0]
    assert everything[0] > EPOCH_CLIPS and everything[1] == 0, everything
    assert all(kept == 0 for _, kept in extractions(plain).values())
    assert not os.path.exists(os.path.join(plain, "harvest")) and not os.path.exists(os.path.join(calm, "harvest"))
    size = told(calm, 0, 1)[1]
    for round_ in (1, 2):
        trained = kept_clips(calm, round_ - 1, size)
        computed, kept = extractions(calm)[round_]
        assert kept == len(trained) > 10 and computed + kept == everything[0], (round_, computed, kept, everything)
        phase = [e for e in events(calm, "phase") if (e["name"], e["round"]) == ("extract", round_)]
        assert phase[-1]["clips"] == computed, phase
    trained = kept_clips(calm, 0, size)
    assert trained == kept_clips(plain, 0, size)
    for modality in ("video", "audio"):
        a, b = features(place, plain, 1, modality), features(place, calm, 1, modality)
        assert a.keys() == b.keys() and len(a) == everything[0], (len(a), len(b))
        apart = {clip: max(abs(x - y) for x, y in zip(a[clip], b[clip])) for clip in a}
        assert all(apart[clip] < 1e-4 for clip in a.keys() - trained), "what is computed is not what it would have been"
        assert all(apart[clip] > 1e-4 for clip in trained), "what is harvested is not of the training"
    print("undisturbed:", extractions(calm), flush=True)
    return calm


class Bursts:
    """A live run whose decoder goes in bursts, so that its trainer can be met in a short phase."""

    def __init__(self, place, run):
        self.place, self.run = place, run
        self.decoder = place.wait("the decoder answers", lambda: place.status("decoder-0"), 60)["pid"]

    def until(self, what, condition, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.run.poll() is None, f"{what}: the run ended too early: {self.run.stdout.read()}"
            status = self.place.status("trainer-0")
            if status and condition(status):
                return status
            os.kill(self.decoder, signal.SIGCONT)
            time.sleep(0.02)
            os.kill(self.decoder, signal.SIGSTOP)
        raise AssertionError(f"not reached: {what}")

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        self.place.wait("the trainer is back", lambda: (self.place.status("trainer-0") or {"pid": pid})["pid"] != pid, 60)

    def kill_behind_checkpoint(self, pid, written):
        """Has the trainer, in bursts too, write a checkpoint and go on a little. It writes behind a step: where it lacks a batch for
        one, the decoder has its bursts with it."""
        os.kill(pid, signal.SIGUSR1)
        start = time.monotonic()
        while not written() and time.monotonic() < start + 60:
            for process in [pid, self.decoder][:1 + (time.monotonic() > start + 0.5)]:
                os.kill(process, signal.SIGCONT)
            time.sleep(0.01)
            for process in (pid, self.decoder):
                os.kill(process, signal.SIGSTOP)
        self.kill(pid)


def killed(place, manifest, calm):
    """In the last epoch behind a checkpoint of its middle, in the extraction, and in the last epoch of the next round."""
    run_dir = place.path("killed")
    run = place.start("xdc", "run", "-c", write_config(place, manifest, run_dir, "killed.yaml"), *sets(HARVEST))
    bursts = Bursts(place, run)

    def in_last_epoch(round_):
        return lambda s: (s["phase"], s["round"], s["epoch"]) == ("train", round_, 1) and 0 < s["done"] < s["total"]
    status = bursts.until("the last epoch of round 0", in_last_epoch(0))
    assert os.path.exists(harvest_file(run_dir, 1))
    bursts.kill_behind_checkpoint(status["pid"], lambda: any(e["step"] % BATCHES for e in events(run_dir, "checkpoint")))
    status = bursts.until("the extraction of round 1", lambda s: (s["phase"], s["round"]) == ("extract", 1))
    assert status["total"] > EPOCH_CLIPS and status["done"] > 10, status
    assert os.path.exists(harvest_file(run_dir, 1))
    place.wait("the checkpoint before it", lambda: os.path.exists(
        os.path.join(run_dir, "checkpoints", f"step-{2 * BATCHES:012d}", "DONE")), 60)
    bursts.kill(status["pid"])
    status = bursts.until("the last epoch of round 1", in_last_epoch(1))
    assert os.listdir(os.path.join(run_dir, "harvest")) == ["round-0002.rows"]
    bursts.kill(status["pid"])
    os.kill(bursts.decoder, signal.SIGCONT)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    log = log_of(run_dir, "trainer-0")
    middle = re.search(r"resumed at step (\d+): train, round 0, epoch 1", log)
    assert middle and int(middle[1]) % BATCHES and "extract, round 1" in log and "train, round 1, epoch 1" in log, log
    assert extractions(run_dir) == extractions(calm)
    same_end(calm, run_dir)
    print("killed in a last epoch, in an extraction and in another last epoch: equal", flush=True)


def same_end(a, b):
    differs = outcome_differs(a, b)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    for encoder in ("video", "audio"):
        assert same_file(*(os.path.join(r, "export", encoder + ".safetensors") for r in (a, b))), encoder
    assert not os.path.exists(os.path.join(b, "harvest")), os.listdir(os.path.join(b, "harvest"))


def two_ranks(place, manifest):
    """Both write into one file; each takes the rows of its own share, whichever rank has trained them."""
    options = {**HARVEST, "run.ranks": 2, "train.recalibrate": "true", "train.micro_batch": 2, "features.dtype": "f16"}
    calm, run_dir = place.path("ranks"), place.path("ranks-killed")
    place.xdc("run", "-c", write_config(place, manifest, calm, "ranks.yaml"), *sets(options))
    for round_ in (1, 2):
        kept, clips = zip(*(told(calm, rank, round_) for rank in (0, 1)))
        assert sum(kept) == len(kept_clips(calm, round_ - 1, sum(clips))) and min(kept) > 0, (round_, kept)
    run = place.start("xdc", "run", "-c", write_config(place, manifest, run_dir, "killed.yaml"), *sets(options))
    place.wait("the last epoch", lambda: (s := place.status("trainer-0")) and
               (s["phase"], s["round"], s["epoch"]) == ("train", 0, 1) and s["done"] >= 8, 120)
    os.kill(place.status("trainer-1")["pid"], signal.SIGKILL)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    assert log_of(run_dir, "trainer-1").count("all ranks have met") >= 2
    same_end(calm, run_dir)
    print("two ranks, one of them killed: equal", flush=True)


def refusals(place, manifest):
    run = place.path("never")
    config = write_config(place, manifest, run, "never.yaml")
    for options, status, words in (({"train.balance": "resample"}, 78, "each encoder has an order of its own"),
                                   ({"method": "supervised"}, 78, "extracts no features")):
        said = place.xdc("run", "-c", config, *sets({**HARVEST, **options}), expect=status).stderr
        assert words in said, said


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=VIDEOS)
    refusals(place, manifest)
    calm = undisturbed(place, manifest)
    killed(place, manifest, calm)
    two_ranks(place, manifest)
    assert not place.processes(), place.processes()
    place.close()


main()
