#!/usr/bin/env python3
"""xdc sweep: every cell and seed pretrained and evaluated, the table the means of what lies there; killed in the midst and gone on with it
ends with the same figures; learning rates of later seeds are the first one's; what fails is named and left out; faults of the file name
their place. usage: test_sweep.py BIN_DIR"""
import glob
import json
import os
import re
import signal
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, make_manifest, write_config  # noqa: E402

SWEEP = """
preset: t1-methods
dir: DIR
base: base.yaml
seeds: [3, 4]
set: {train.rounds: 1, train.epochs: 1}
pretrain: [{name: "", manifest: m.lmdb}]
targets: [{name: synth, manifests: [m.lmdb], clips: 2}]
rows:
  - {name: Scratch, once: true, set: {train.rounds: 0}}
  - {name: XDC, set: {method: xdc}}
grid: {cluster.k: [2]}
evaluate:
  - {name: fine-tuned, eval: finetune, of: video, figure: video_top1, options: {lr: [0.01, 0.1]}, set: {train.epochs: 1, train.warmup_epochs: 0, data.clips_per_video: 1, train.batch: 8, train.threads: 1}}
  - {name: kNN, eval: knn, figure: video_top1, options: {k: 3}}
  - {name: AMI, eval: cluster, figure: ami, options: {restarts: 2}}
order: [XDC, Scratch, SDC]
"""
CELLS = ["Scratch", "XDC-cluster.k=2"]

EVALS = {"fine-tuned": "finetune", "kNN": "knn", "AMI": "cluster"}


def write(place, name):
    path = place.path(name + ".yaml")
    with open(path, "w") as f:
        f.write(SWEEP.replace("DIR", name))
    return path


def figures(folder):
    """Every result of a sweep by its path, without what differs from run to run."""
    found = {}
    for path in glob.glob(os.path.join(folder, "*", "seed-*", "*.json")):
        found[re.sub(r"-[0-9a-f]{8}-", "-", os.path.relpath(path, folder))] = json.load(open(path))["figures"]
    return found


def check_table(folder):
    table, found = json.load(open(os.path.join(folder, "table.json"))), figures(folder)
    assert [(c["name"], c["of"]) for c in table["columns"]] == \
        [("fine-tuned", "video"), ("kNN", "video"), ("kNN", "audio"), ("AMI", "video"), ("AMI", "audio")]
    assert len(table["rows"]) == len(CELLS) and table["missing"] == [] and table["seeds"] == [3, 4]
    means = {}
    for cell, row in zip(CELLS, table["rows"]):
        for column, value in zip(table["columns"], row["values"]):
            mine = [found[f"{cell}/seed-{s}/{EVALS[column['name']]}-{column['of']}-0.json"][column["figure"]] for s in (3, 4)]
            assert value["seeds"] == mine, (cell, column, value, mine)
            assert abs(value["mean"] - statistics.mean(mine)) < 1e-12 and abs(value["deviation"] - statistics.stdev(mine)) < 1e-12
            means[cell, column["name"], column["of"]] = value["mean"]
        assert row["pretrain_s"] > 0, row
    (pair,) = table["order"]
    assert (pair["first"], pair["second"]) == ("XDC", "Scratch"), pair
    want = [means[CELLS[1], c["name"], c["of"]] - means["Scratch", c["name"], c["of"]] for c in table["columns"]]
    assert all(abs(a - b) < 1e-12 for a, b in zip(pair["ahead"], want)), (pair, want)
    text = open(os.path.join(folder, "table.md")).read()
    assert "| XDC cluster.k=2 |" in text and "XDC, Kinetics (all): UCF101 74.2 HMDB51 39.0 ESC-50 78.0" in text, text
    assert len(set(means.values())) > 5, means


def check_rates(folder):
    """The first seed has tried both rates, the second one the chosen rate alone."""
    for cell in CELLS:
        first, second = (json.load(open(glob.glob(os.path.join(folder, cell, f"seed-{s}", "finetune-*-video-0.json"))[0]))["splits"][0] for s in (3, 4))
        assert [g["lr"] for g in first["grid"]] == [0.01, 0.1] and first["lr"] in (0.01, 0.1), first
        assert second["grid"] == [] and second["lr"] == first["lr"], second


def goes_on(place, calm):
    """Killed twice with all that it has started, then run to its end."""
    path, folder = write(place, "killed"), place.path("killed")
    for steps in (2, 9):
        p = place.start("xdc", "sweep", path)
        place.wait(f"{steps} steps", lambda: p.poll() is not None or
                   len(glob.glob(os.path.join(folder, "*", "seed-*", "*.json")) +
                       glob.glob(os.path.join(folder, "*", "seed-*", "pretrain-0", "pretrained.json"))) >= steps, 120)
        assert p.poll() is None, "it ended too early: " + p.stdout.read()
        p.kill()
        for pid in place.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        p.wait()
        place.wait("all are gone", lambda: not place.processes())
    place.xdc("sweep", path)
    assert figures(folder) == calm, "not the figures of the undisturbed sweep"
    before = {f: os.path.getmtime(f) for f in glob.glob(os.path.join(folder, "*", "seed-*", "*.json"))}
    said = place.xdc("sweep", path)
    assert before == {f: os.path.getmtime(f) for f in before} and "[" not in said.stderr, "a finished sweep does nothing again"


def stops(place):
    """SIGTERM ends what it has started, with 75."""
    p = place.start("xdc", "sweep", write(place, "stopped"))
    place.wait("a trainer", lambda: place.sockets("trainer-0"))
    status, said = place.stop(p)
    assert status == 75 and "stopped" in said, (status, said)
    place.wait("all are gone", lambda: not place.processes())


def fails(place):
    """A row that cannot be trained is named; the others have their figures, and another start tries it again."""
    path = place.path("failing.yaml")
    text = SWEEP.replace("DIR", "failing").replace("seeds: [3, 4]", "seeds: [3]")
    rows = text.index("rows:")
    text = text[:rows] + """rows:
  - {name: Broken, set: {method: xdc, cluster.k: 5000}}
  - name: Scratch
    parts:
      - {set: {method: same-modality, same.modality: video, train.rounds: 0}, video: video-a}
grid: {}
evaluate:
  - {name: kNN, eval: knn, figure: video_top1, options: {k: 3}}
"""
    open(path, "w").write(text)
    for _ in range(2):
        said = place.xdc("sweep", path, expect=65)
        assert "Broken seed 3: pretraining: `xdc run` ended with" in said.stderr and "1 of 5 steps failed" in said.stderr, said.stderr
        table = json.load(open(place.path("failing", "table.json")))
        values = {r["row"]: [v and v["mean"] for v in r["values"]] for r in table["rows"]}
        assert values["Broken"] == [None, None] and 0 <= values["Scratch"][0] <= 1 and values["Scratch"][1] is None, values
        assert [(m["cell"], m["column"], m["of"]) for m in table["missing"]] == [("Broken", "kNN", "video"), ("Broken", "kNN", "audio")]
        assert "2 results are missing" in said.stdout, said.stdout
        assert os.path.exists(place.path("failing", "Broken", "seed-3", "pretrain-0", "pretrained.json.failed"))
    other = place.path("other.yaml")
    open(other, "w").write(text.replace("options: {k: 3}", "options: {k: 5}"))
    said = place.xdc("sweep", other, expect=65).stderr
    assert said.count("kNN video: video_top1") == 1, "another option is another result: " + said
    open(path, "w").write(text.replace("train.rounds: 0", "train.rounds: 1"))
    said = place.xdc("sweep", path, expect=65)
    assert "Scratch seed 3: pretraining: " in said.stderr and "was made with other settings" in said.stderr, said.stderr


def refuses(place):
    def said(text, status=78):
        open(place.path("bad.yaml"), "w").write(text)
        return place.xdc("sweep", place.path("bad.yaml"), "-n", expect=status).stderr
    good = SWEEP.replace("DIR", "bad")
    for old, new, what in (
            ("preset: t1-methods", "preset: t9", "preset: t9 is none of t1-methods"),
            ("dir: bad", "dri: bad", "unknown key dri"),
            ("base: base.yaml", "base: nothing.yaml", "nothing.yaml"),
            ("seeds: [3, 4]", "seeds: [3, x]", "seeds[1] must be a number"),
            ("seeds: [3, 4]", "seeds: []", "seeds must be a list"),
            ("manifest: m.lmdb}", "lmdb: m.lmdb}", "pretrain: unknown key lmdb"),
            ("{name: XDC, set", "{nom: XDC, set", "rows: unknown key nom"),
            ("{method: xdc}}", "{method: xdx}}", "method"),
            ("eval: knn", "eval: knm", "evaluate[1]: eval must be"),
            ("eval: knn", "target: other, eval: knn", "there is no target other"),
            ("of: video", "of: touch", "of must be both, video or audio"),
            ("grid: {cluster.k: [2]}", "grid: {cluster.k: 2}", "grid: cluster.k must be a list"),
            ("grid: {cluster.k: [2]}", "grid: {cluster.kk: [2]}", "cluster.kk"),
            ("seeds: [3, 4]", "seeds: *a", "bad.yaml:5:8"),
            ("seeds: [3, 4]", "seeds: [3, 4]\nseeds: [1]", "given twice: seeds"),
            ("seeds: [3, 4]", "seeds: [3, 4", "not YAML")):
        assert old in good
        text = said(good.replace(old, new, 1))
        assert what in text, (what, text)
    assert "dir is missing" in said("")
    out = place.xdc("sweep", "--show", "t2-k").stdout
    assert "cluster.k: [64, 128, 256, 512, 1024]" in out, out
    for name in ("t1-methods", "t3-data", "t4-fc-vs-all", "t5-video-sota", "t6-audio-sota", "selavi-metrics"):
        target = "targets: [{name: UCF101, manifests: [m.lmdb]}, {name: HMDB51, manifests: [m.lmdb]}, {name: ESC-50, manifests: [m.lmdb]}, " \
                 "{name: DCASE, manifests: [m.lmdb]}]\n"
        open(place.path("preset.yaml"), "w").write(f"preset: {name}\ndir: p\nbase: base.yaml\npretrain: [{{name: K, manifest: m.lmdb}}]\n" + target)
        assert "K-XDC: " in place.xdc("sweep", place.path("preset.yaml"), "-n").stdout, name
    examples = glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "examples", "sweeps", "*.yaml"))
    assert len(examples) >= 4, examples
    for path in examples:
        assert "XDC" in place.xdc("sweep", path, "-n").stdout, path
    place.xdc("sweep", "--show", "t9", expect=64)
    place.xdc("sweep", place.path("none.yaml"), expect=66)
    place.xdc("sweep", expect=64)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=24, flaws=False)
    assert manifest == place.path("m.lmdb")
    write_config(place, manifest, "unused", "base.yaml")
    refuses(place)
    print("faults of files are named", flush=True)
    place.xdc("sweep", write(place, "calm"))
    check_table(place.path("calm"))
    check_rates(place.path("calm"))
    print("the table is that of the cells", flush=True)
    goes_on(place, figures(place.path("calm")))
    print("killed twice: equal", flush=True)
    stops(place)
    fails(place)
    place.close()


main()
