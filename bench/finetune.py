#!/usr/bin/env python3
"""A fine-tuning epoch against a pretraining epoch with the same targets, in turns: the same network and batches on the labels of the same
manifest, as `xdc run` with method supervised trains one encoder from random weights, and as `xdc eval finetune` trains one from a file.
The ratio of clips/s of all epochs but the first is to be 0.95 at least.
usage: finetune.py BIN_DIR CONFIG.yaml MANIFEST [TURNS]"""
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

EPOCHS = 4
SAME = {"train.epochs": EPOCHS, "train.warmup_epochs": 0, "data.clips_per_video": 1, "train.tensorboard": "false"}


def sets(options):
    return [a for k, v in options.items() for a in ("--set", f"{k}={v}")]


def xdc(bin_dir, *args):
    p = subprocess.run([os.path.join(bin_dir, "xdc"), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        raise SystemExit(f"xdc {' '.join(map(str, args))}: status {p.returncode}\n{p.stdout}")


def rates(run):
    epochs = [e for e in map(json.loads, open(os.path.join(run, "events.jsonl"))) if e["event"] == "epoch"]
    assert len(epochs) == EPOCHS, run
    return [e["clips_per_s"] for e in epochs[1:]]


def pretrain(bin_dir, config, manifest, encoder, run):
    xdc(bin_dir, "run", "-c", config, *sets({**SAME, "data.manifest": manifest, "run.dir": run, "method": "supervised", "train.rounds": 1,
                                             "net.encoders": encoder, "train.balance": "off", "data.split": "train", "run.clusterer": "false",
                                             "train.holdout": 0}))
    return rates(run)


def finetune(bin_dir, batch, manifest, file, folder):
    xdc(bin_dir, "eval", "finetune", file, manifest, "--dir", folder, "--lr", 0.01, "--clips", 1, *sets({**SAME, "train.batch": batch}))
    (run,) = glob.glob(os.path.join(folder, "1", "final", "run"))
    return rates(run)


def main():
    bin_dir, config, manifest = (os.path.abspath(p) for p in sys.argv[1:4])
    turns = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    with tempfile.TemporaryDirectory() as folder:
        drawn = os.path.join(folder, "drawn")
        xdc(bin_dir, "run", "-c", config, *sets({"data.manifest": manifest, "run.dir": drawn, "train.rounds": 0}))
        batch = json.load(open(os.path.join(drawn, "run.json")))["config"]["train.batch"]
        print("| encoder | pretraining, clips/s | fine-tuning, clips/s | ratio |\n|---|---|---|---|")
        for encoder in ("video", "audio"):
            before, after = [], []
            for turn in range(turns):
                run = os.path.join(folder, f"{encoder}-{turn}")
                before += pretrain(bin_dir, config, manifest, encoder, run)
                shutil.rmtree(run)
                file = os.path.join(drawn, "export", encoder + ".safetensors")
                after += finetune(bin_dir, batch, manifest, file, run)
                shutil.rmtree(run)
            p, f = statistics.median(before), statistics.median(after)
            print(f"| {encoder} | {p:.1f} | {f:.1f} | {f / p:.3f} |", flush=True)


main()
