#!/usr/bin/env python3
"""Holds a finished run against what it must reach: check_run.py RUN [--first-at-most A] [--last-at-least B]
[--rise-at-least C]   Reads events.jsonl; A and B are AMI of every source with truth in the first and the last label table, C is by
how much it rose between them."""
import argparse
import json
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("run")
parser.add_argument("--first-at-most", type=float)
parser.add_argument("--last-at-least", type=float)
parser.add_argument("--rise-at-least", type=float)
args = parser.parse_args()

tables = {}
for line in open(os.path.join(args.run, "events.jsonl")):
    event = json.loads(line)
    if event["event"] == "labels":
        tables[event["round"]] = event["quality"]["sources"]
if not tables:
    sys.exit("no label table in " + args.run)
first, last = tables[min(tables)], tables[max(tables)]
bad = []
for name in last:
    print(f"{name}: AMI with truth {first[name]['ami_truth']:.3f} in round {min(tables)}, "
          f"{last[name]['ami_truth']:.3f} in round {max(tables)}")
    if args.first_at_most is not None and first[name]["ami_truth"] > args.first_at_most:
        bad.append(f"the first labelling of {name} is above {args.first_at_most}")
    if args.last_at_least is not None and last[name]["ami_truth"] < args.last_at_least:
        bad.append(f"the last labelling of {name} is below {args.last_at_least}")
    rise = last[name]["ami_truth"] - first[name]["ami_truth"]
    if args.rise_at_least is not None and rise < args.rise_at_least:
        bad.append(f"the labelling of {name} rose by less than {args.rise_at_least}")
for encoder in ("video", "audio"):
    if not os.path.getsize(os.path.join(args.run, "export", encoder + ".safetensors")):
        bad.append(f"no {encoder} encoder")
sys.exit("; ".join(bad) or 0)
