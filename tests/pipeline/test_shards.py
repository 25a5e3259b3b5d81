#!/usr/bin/env python3
"""A run and `xdc embed` on tar archives: the features of the plain files in the same order, bit for bit; and an archive that is
written anew while nobody looks costs its clips alone, with the reason.
usage: test_shards.py BIN_DIR"""
import io
import json
import os
import sys
import tarfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, copy_clips, sets, write_config  # noqa: E402

OPTIONS = {"train.batch": 8, "train.threads": 1, "decoder.workers": 2}  # the last bits hang on the batch and the threads


def media_of(clips):
    """Paths below the folder, as an index sorts them."""
    found = [os.path.relpath(os.path.join(d, n), clips) for d, _, names in os.walk(clips) for n in names if n.endswith(".mp4")]
    return sorted(found)


def make_shards(place, clips, names, labels):
    """Three archives, each in another form, of the files in their order and a .json with class and split behind each."""
    os.mkdir(place.path("shards"))
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    for k, form in enumerate(forms):
        with tarfile.open(place.path("shards", f"part-{k}.tar"), "w", format=form) as t:
            for name in names[k * len(names) // 3:(k + 1) * len(names) // 3]:
                t.add(os.path.join(clips, name), f"set/{name}")
                text = json.dumps(dict(zip(("label", "split"), labels[name]))).encode()
                info = tarfile.TarInfo(f"set/{name[:-4]}.json")
                info.size = len(text)
                t.addfile(info, io.BytesIO(text))


def features(place, run):
    found = {}
    for modality in ("video", "audio"):
        place.xdc("features", run, "--round", "last", "--modality", modality, "--out", place.path("f.npy"))
        found[modality] = np.load(place.path("f.npy"))
    return found


def embedded(place, manifest, encoder, out):
    p = place.xdc("embed", encoder, manifest, "--out", place.path(out), "--clips", 2, "--json", *sets(OPTIONS))
    rows = [json.loads(line) for line in open(place.path(out[:-4] + ".jsonl"))]
    return np.load(place.path(out)), rows, json.loads(p.stdout)["failed"]["files"]


def main():
    place = Place(sys.argv[1])
    clips = place.path("clips")
    copy_clips(place, 24, False, clips)
    names = media_of(clips)
    labels = {line.split(",")[0]: line.split(",")[1:3] for line in open(os.path.join(clips, "labels.csv")).read().splitlines()[1:]}
    make_shards(place, clips, names, labels)
    place.xdc("index", clips, "--labels", os.path.join(clips, "labels.csv"), "--out", place.path("plain.lmdb"))
    place.xdc("index", place.path("shards"), "--out", place.path("shards.lmdb"))
    dumps, tables = {}, {}
    for kind in ("plain", "shards"):
        run = place.path("run-" + kind)
        place.xdc("run", "-c", write_config(place, place.path(kind + ".lmdb"), run, kind + ".yaml"), "--set", "train.rounds=1")
        dumps[kind] = features(place, run)
        place.xdc("labels", run, "--round", "last", "--out", place.path(kind + ".csv"))
        tables[kind] = open(place.path(kind + ".csv")).read().splitlines()
    for modality in ("video", "audio"):
        a, b = dumps["plain"][modality], dumps["shards"][modality]
        assert a.shape == b.shape and np.array_equal(a, b, equal_nan=True), modality
        assert len(np.unique(a[~np.isnan(a).any(1)], axis=0)) > 6, "the features do not tell clips apart"
    fields = [[line.split(",") for line in tables[kind]] for kind in ("plain", "shards")]
    assert [row[2:] for row in fields[0]] == [row[2:] for row in fields[1]] and len(fields[0]) == 25
    encoder = place.path("run-plain", "export", "video.safetensors")
    plain, rows, failed = embedded(place, place.path("plain.lmdb"), encoder, "plain.npy")
    packed, packed_rows, packed_failed = embedded(place, place.path("shards.lmdb"), encoder, "shards.npy")
    assert failed == packed_failed == [] and len(rows) == 48 and (plain == packed).all()
    for a, b in zip(rows, packed_rows):
        assert b["uri"].endswith("/set/" + a["uri"]) and ".tar#" in b["uri"], b["uri"]
        assert {k: v for k, v in a.items() if k != "uri"} == {k: v for k, v in b.items() if k != "uri"}
    print("a run and embed: equal to plain files, bit for bit", flush=True)
    make_changed(place, names, clips)
    broken, broken_rows, failed = embedded(place, place.path("shards.lmdb"), encoder, "changed.npy")
    kept = [i for i, r in enumerate(packed_rows) if "part-1.tar" not in r["uri"]]
    assert [r["uri"] for r in broken_rows] == [packed_rows[i]["uri"] for i in kept] and (broken == packed[kept]).all()
    assert {f["reason"] for f in failed} == {"changed_since_index"} and all("part-1.tar" in f["uri"] for f in failed), failed
    print("an archive of another order costs its own clips", flush=True)
    place.close()


def make_changed(place, names, clips):
    """The second archive anew, in reverse order."""
    mine = names[len(names) // 3:2 * len(names) // 3]
    with tarfile.open(place.path("shards", "part-1.tar"), "w", format=tarfile.GNU_FORMAT) as t:
        for name in reversed(mine):
            t.add(os.path.join(clips, name), f"set/{name}")


main()
