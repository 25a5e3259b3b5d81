#!/usr/bin/env python3
"""docs/tutorial.md: its commands, in their order, in a folder with clips of a known structure. usage: test_tutorial.py BIN_DIR"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def blocks(text):
    """The indented blocks, without their indentation."""
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M):
        yield re.sub(r"^    ", "", block, flags=re.M).strip("\n") + "\n"


def main():
    place = Place(sys.argv[1])
    work = place.path("work")
    os.mkdir(work)
    env = dict(place.env, PATH=f"{place.bin}:/usr/bin:/bin")
    with open(os.path.join(ROOT, "docs", "tutorial.md")) as f:
        commands = list(blocks(f.read()))
    assert len(commands) >= 8, commands
    said = []
    for block in commands:
        p = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=work, env=env, text=True, timeout=600,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert p.returncode == 0, f"{block}\nstatus {p.returncode}\n{p.stdout}\n{p.stderr}"
        said.append(p.stdout)
        print(block.splitlines()[0], "... is good", flush=True)
    said = "\n".join(said)
    near = {line.split()[0]: line.split()[1:] for line in said.splitlines() if re.match(r"(video|audio) .*\.mp4", line)}
    for name in ("video", "audio"):
        assert len(set(near[name])) == 6 and near[name][0] == near["video"][0], near
        with open(os.path.join(work, name + ".jsonl")) as f:
            rows = [json.loads(line) for line in f]
        assert [r["clip"] for r in rows] == [0, 1, 2] * 60, rows[:4]
    assert re.search(r"r@1 +0\.\d+", said) and re.search(r"ami +-?[01]\.\d+", said), said
    place.close()


main()
