#!/usr/bin/env python3
"""The evaluation of SeLaVi on a small run that is really trained: labels by its heads with all figures, recomputed with NumPy and
scikit-learn out of the exported files; features of the last stage's maps and retrieval by its protocol; degraded vision. What does not
fit together is refused by name. usage: test_eval_selavi.py BIN_DIR"""
import json
import os
import sys

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import Place, make_manifest_with, last_checkpoint, read_safetensors, sets, write_config  # noqa: E402

HEADS, K = 3, 4
SELAVI = {"method": "selavi", "cluster.k": K, "train.rounds": 2, "train.epochs": 3, "selavi.heads": HEADS, "selavi.groups": 2}
EMBED = {"train.batch": 8, "train.threads": 1, "decoder.workers": 2}
SPLITS = ("train", "train", "test", "test")


def rows_of(path):
    return [json.loads(line) for line in open(path.replace(".npy", ".jsonl"))]


def embed(place, name, encoder, manifest, *args, expect=0, **more):
    out = place.path(name + ".npy")
    said = place.xdc("embed", encoder, manifest, "--out", out, *args, *sets({**EMBED, **more}), expect=expect)
    return (out, np.load(out), rows_of(out)) if expect == 0 else said.stderr


def labels_by_heads(heads, video, audio, h):
    """(labels, log probabilities [n, k], half the sum of both modalities'), in f64 of NumPy."""
    total = 0
    for name, x in (("video", video), ("audio", audio)):
        t = {k.split(".", 3)[3]: v.astype("f8") for k, v in heads.items() if k.startswith(f"{name}.heads.{h}.")}
        x = x.astype("f8") @ t["1.weight"].T
        x = (x - t["2.running_mean"]) / np.sqrt(t["2.running_var"] + 1e-5) * t["2.weight"] + t["2.bias"]
        x = np.maximum(x, 0) @ t["5.weight"].T + t["5.bias"]
        total = total + x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
    return total.argmax(1), total / 2


def figures_of(labels, truth):
    table = metrics.cluster.contingency_matrix(truth, labels)  # classes x clusters that occur
    shares = table / table.sum(0)
    entropies = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(0)
    return {"nmi": metrics.normalized_mutual_info_score(truth, labels), "ami": metrics.adjusted_mutual_info_score(truth, labels),
            "ari": metrics.adjusted_rand_score(truth, labels), "accuracy": table[linear_sum_assignment(-table)].sum() / len(truth),
            "entropy": entropies.mean(), "purity": shares.max(0).mean()}


def close(got, want, what):
    assert got.keys() == want.keys(), (what, got, want)
    assert all(abs(got[k] - want[k]) < 1e-9 for k in want), (what, got, want)


def by_heads(place, video, audio, heads, *args):
    return json.loads(place.xdc("eval", "cluster", video, "--with", audio, "--heads", heads, "--json", *args).stdout)


def check_heads(place, j, path, video, audio, pairs):
    """Every figure of the object; pairs: rows of both files that are of the same clips. Returns the labels of the head with most NMI."""
    heads, (v, rows), a = read_safetensors(path), video, audio[0]
    here, there = np.array(pairs).T
    truth = np.array([rows[i]["label"] for i in here])
    costs, found, labels = [], [], []
    for h in range(HEADS):
        mine, logs = labels_by_heads(heads, v[here], a[there], h)
        best = np.sort(logs, 1)
        assert (best[:, -1] - best[:, -2]).min() > 1e-5, "a tie, which f32 may decide otherwise"
        labels.append(mine)
        costs.append(-best[:, -1].mean())
        found.append(figures_of(mine, truth))
        one = j["by_head"][h]
        assert one["head"] == h and abs(one["cost"] - costs[h]) < 1e-5, (h, one, costs[h])
        close(one["figures"], found[h], f"head {h}")
        sizes = np.bincount(mine, minlength=K)
        assert one["sizes"] == {"min": sizes.min(), "max": sizes.max(), "median": np.median(sizes), "empty": (sizes == 0).sum()}, one
    best = max(range(HEADS), key=lambda h: found[h]["nmi"])
    assert (j["highest_nmi"], j["lowest_cost"]) == (best, int(np.argmin(costs))), (j, found, costs)
    close(j["figures"], found[best], "by NMI")
    close(j["figures_label_free"], found[int(np.argmin(costs))], "by cost")
    close(j["figures_mean"], {k: float(np.mean([f[k] for f in found])) for k in found[0]}, "mean")
    assert j["k"] == K and j["clustered"] == j["compared"] == len(pairs) and j["compared_classes"] == len(set(truth))
    return labels[best]


def without(path, name, drop):
    """A copy of a feature file without some of its rows."""
    x, rows = np.load(path), rows_of(path)
    keep = [i for i in range(len(rows)) if i not in drop]
    out = os.path.join(os.path.dirname(path), name + ".npy")
    np.save(out, x[keep])
    with open(out.replace(".npy", ".jsonl"), "w") as f:
        f.writelines(json.dumps(dict(rows[i], row=n)) + "\n" for n, i in enumerate(keep))
    return out


def labels(place, run, manifest):
    heads, encoders = place.path("heads.safetensors"), [os.path.join(run, "export", m + ".safetensors") for m in ("video", "audio")]
    place.xdc("export", run, "--heads", "--out", heads)
    learnt = read_safetensors(os.path.join(last_checkpoint(run), "weights.safetensors"))
    got = read_safetensors(heads)
    assert set(got) == {n for n in learnt if n.split(".")[1:2] == ["heads"]} and len(got) >= 2 * HEADS * 7, sorted(got)
    assert all((got[n] == learnt[n]).all() for n in got)

    video, v, vrows = embed(place, "video", encoders[0], manifest, "--clips", 2)
    audio, a, arows = embed(place, "audio", encoders[1], manifest, "--clips", 2)
    assert len(vrows) == len(arows) == 48 and {r["encoder"] for r in vrows} == {"video"} and len({r["weights"] for r in vrows + arows}) == 1
    everything = [(i, i) for i in range(48)]
    j = by_heads(place, video, audio, heads, "--out", place.path("labels.npy"))
    mine = check_heads(place, j, heads, (v, vrows), (a, arows), everything)
    assert (np.load(place.path("labels.npy")) == mine).all() and j["unmatched"] == {"features": 0, "with": 0}
    print("heads:", json.dumps(j["figures"]), flush=True)

    # The other order, other numbers of threads: the same.
    swapped = by_heads(place, audio, video, heads, "--threads", 1)
    assert swapped["by_head"] == j["by_head"] == by_heads(place, video, audio, heads, "--threads", 3)["by_head"]
    part = by_heads(place, video, audio, heads, "--split", "test", "--out", place.path("labels.npy"))
    test = [i for i, r in enumerate(vrows) if r["split"] == "test"]
    mine = check_heads(place, part, heads, (v, vrows), (a, arows), [(i, i) for i in test])
    found = np.load(place.path("labels.npy"))
    assert (found[test] == mine).all() and (np.delete(found, test) == -1).all() and 0 < len(test) < 48

    # Rows that one file lacks are left out and counted.
    fewer, less = without(video, "fewer", {3, 40}), without(audio, "less", {0, 3, 7})
    j = by_heads(place, fewer, less, heads)
    at = lambda path: {(r["video"], r["clip"]): i for i, r in enumerate(rows_of(path))}  # noqa: E731
    here, there = at(fewer), at(less)
    check_heads(place, j, heads, (np.load(fewer), rows_of(fewer)), (np.load(less),), [(here[c], there[c]) for c in sorted(here) if c in there])
    assert j["unmatched"] == {"features": 2, "with": 1} and j["clustered"] == 44, j
    text = place.xdc("eval", "cluster", fewer, "--with", less, "--heads", heads).stdout
    assert "left out: 2 rows of" in text and "highest NMI" in text and "head 2" in text, text
    refusals(place, run, manifest, heads, video, audio, encoders)
    return heads, video, audio, encoders


def refusals(place, run, manifest, heads, video, audio, encoders):
    def refused(status, says, *args):
        said = place.xdc("eval", "cluster", *args, expect=status).stderr
        assert says.lower() in said.lower(), (says, said)

    other, once = place.path("other"), place.path("once.npy")
    place.xdc("run", "-c", write_config(place, manifest, other, "other.yaml"), *sets({**SELAVI, "train.rounds": 1, "train.epochs": 1}))
    foreign = place.path("foreign.safetensors")
    place.xdc("export", other, "--heads", "--out", foreign)
    refused(65, "the heads in " + foreign + " were trained with", video, "--with", audio, "--heads", foreign)
    refused(65, "both of the video encoder", video, "--with", video, "--heads", heads)
    refused(65, "lacks xdc.weights", video, "--with", audio, "--heads", drawn(place))
    embed(place, "once", encoders[1], manifest, "--clips", 1)
    refused(65, "the same --clips", video, "--with", once, "--heads", heads)
    moved = without(audio, "moved", set())
    rows = rows_of(moved)
    with open(moved.replace(".npy", ".jsonl"), "w") as f:
        f.writelines(json.dumps(dict(r, weights=None)) + "\n" for r in rows)
    refused(65, "do not say by which weights", video, "--with", moved, "--heads", heads)
    with open(moved.replace(".npy", ".jsonl"), "w") as f:
        f.writelines(json.dumps(dict(r, uri="else/" + r["uri"])) + "\n" for r in rows)
    refused(65, "embed both of one manifest", video, "--with", moved, "--heads", heads)
    refused(64, "--heads and --with go together", video, "--heads", heads)
    refused(64, "--k is of k-means", video, "--with", audio, "--heads", heads, "--k", 3)
    refused(66, "no such file", video, "--with", audio, "--heads", place.path("nowhere"))
    # Nothing but a run of selavi has such heads.
    plain = place.path("plain")
    place.xdc("run", "-c", write_config(place, manifest, plain, "plain.yaml"), *sets({"train.rounds": 1, "train.epochs": 1}))
    assert "its method is xdc" in place.xdc("export", plain, "--heads", "--out", place.path("x"), expect=65).stderr
    place.xdc("export", run, "--heads", "--encoder", "video", "--out", place.path("x"), expect=64)
    assert not os.path.exists(place.path("x"))


def drawn(place):
    """An encoder drawn anew: it records no checkpoint."""
    out = place.path("drawn.safetensors")
    place.xdc("export", "--init", "r3d_10", "--width", 4, "--out", out)
    return out


def recalls(x, rows, ks=(1, 5, 10)):
    """SeLaVi's: each clip of length 1, a video the mean of its clips, Euclidean; test asks train."""
    x = x.astype("f8") / np.linalg.norm(x.astype("f8"), axis=1, keepdims=True)
    videos = sorted({r["video"] for r in rows})
    of = {v: [i for i, r in enumerate(rows) if r["video"] == v] for v in videos}
    means = {v: x[of[v]].mean(0) for v in videos}
    about = {v: rows[of[v][0]] for v in videos}
    test, train = ([v for v in videos if about[v]["split"] == s] for s in ("test", "train"))
    hits = []
    for q in test:
        near = sorted(train, key=lambda v: ((means[v] - means[q]) ** 2).sum())
        hits.append([about[v]["label"] == about[q]["label"] for v in near])
    return {f"r@{k}": float(np.mean([any(h[:k]) for h in hits])) for k in ks}


def maps(place, manifest, encoders, heads, video, audio):
    """Of 4 frames of 32 pixels the last maps are 1 x 2 x 2: pooled they are the maxima, where the other features are the means."""
    single, x, rows = embed(place, "maps", encoders[0], manifest, "--clips", 2, "--maps")
    mean = np.load(video)
    assert x.shape == mean.shape and (x >= mean).all() and (x > mean).any() and rows == rows_of(video)
    large, x, rows = embed(place, "large", encoders[0], manifest, "--clips", 3, "--maps",
                           **{"video.frames": 16, "video.resize": 80, "video.crop": 80})
    assert x.shape == (72, 32 * 1 * 2 * 2), x.shape  # maps of 2 x 5 x 5
    sound, y, _ = embed(place, "sound", encoders[1], manifest, "--clips", 1, "--maps")
    assert y.shape == (24, 32 * 1 * 2), y.shape  # of 2 x 4
    for path, x in ((large, x), (sound, y)):
        j = json.loads(place.xdc("eval", "retrieval", path, "--json").stdout)
        want = recalls(x, rows_of(path))
        assert all(abs(j["figures"][k] - want[k]) < 1e-9 for k in want), (path, j["figures"], want)
        print("retrieval:", os.path.basename(path), want, flush=True)
    said = place.xdc("eval", "cluster", large, "--with", audio, "--heads", heads, expect=65).stderr
    assert "embed without --maps" in said, said
    assert "has video.frames 4" in embed(place, "x", encoders[0], manifest, expect=78, **{"video.frames": 16})
    assert "embed sets features.kind itself" in embed(place, "x", encoders[0], manifest, expect=78, **{"features.kind": "maps"})
    said = place.xdc("run", "-c", place.path("other.yaml"), "--set", "features.kind=maps", "--set", f"run.dir={place.path('no')}", expect=78)
    assert "features.kind" in said.stdout + said.stderr, said


def degraded(place, manifest, heads, video, audio, encoders):
    """Factor 1 is the picture as it is; at 8 the video encoder sees other pixels, and figures by heads and by k-means are there."""
    before = np.load(video)
    for factor in (1, 8):
        path, x, rows = embed(place, f"video-{factor}", encoders[0], manifest, "--clips", 2, **{"video.degrade": factor})
        assert rows == rows_of(video)
        assert (x == before).all() == (factor == 1), factor
        j = by_heads(place, path, audio, heads)
        check_heads(place, j, heads, (x, rows), (np.load(audio),), [(i, i) for i in range(48)])
        k = json.loads(place.xdc("eval", "cluster", path, "--json").stdout)
        print(f"degraded by {factor}: NMI by heads {j['figures']['nmi']:.3f}, of k-means {k['figures']['nmi']:.3f}", flush=True)


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest_with(place, 24, lambda i: SPLITS[i // 4 % 4])
    run = place.path("run")
    place.xdc("run", "-c", write_config(place, manifest, run), *sets({**SELAVI, "data.split": "all"}))
    heads, video, audio, encoders = labels(place, run, manifest)
    maps(place, manifest, encoders, heads, video, audio)
    degraded(place, manifest, heads, video, audio, encoders)
    assert not place.processes(), place.processes()
    place.close()


main()
