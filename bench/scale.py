#!/usr/bin/env python3
"""What N clips cost where nothing is decoded or computed by a network: bench_scale at several sizes as a Markdown table a part.
usage: scale.py BIN_DIR DIR [PART[,PART...] [N[,N...] [THREADS]]]   (DIR needs room: 1 KiB a clip for dump, 150 B for manifest)"""
import json
import os
import subprocess
import sys

PARTS = "order,ledger,table,quality,manifest,dump,pass"


def main():
    bin_dir, place = sys.argv[1:3]
    parts, sizes, threads = sys.argv[3:] + [PARTS, "1000000,6500000,65000000", "0"][len(sys.argv) - 3:]
    for part in parts.split(","):
        columns = None
        for n in sizes.split(","):
            command = ["nice", os.path.join(bin_dir, "bench_scale"), part, n, place, threads]
            r = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            names = [k for k in r if k not in ("part", "n")]
            if columns is None:
                columns = names
                print(f"\n{part}\n\n| clips | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
            print(f"| {int(n):,} | {' | '.join(f'{r[k]:,}' for k in columns)} |", flush=True)


if __name__ == "__main__":
    main()
