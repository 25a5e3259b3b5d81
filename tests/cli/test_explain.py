"""xdc explain clip: what a run knows of one clip, against what is computed here of its dump, table and kept centroids."""
import csv
import json
import struct
import subprocess
import sys

import numpy as np

from common import CommandTest, main

MAKE_RUN = sys.argv[3]
# With no features, of the doctor's list, drawn three times, held out (HELD of 30 videos), and others.
HELD = {1, 2, 13}
CLIPS = 0, 3, 6, 7, 8, 11, 27, 59


def tensors(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    types = {"F64": "<f8", "F32": "<f4"}
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__")
    return {name: np.frombuffer(data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]], types[t["dtype"]])
            .reshape(t["shape"]).astype(np.float64) for name, t in header.items()}


def through(t, parts, normalize):
    """Features of each part [clips, dim] as they are clustered: docs/formats.md in NumPy."""
    x = np.concatenate([(f - t[f"{name}.mean"]) * t[f"{name}.factor"] for name, f in parts], axis=1)
    if normalize == "pca-whiten-l2":
        x = (x - t["whiten.mean"]) @ t["whiten.vectors"].T * t["whiten.scales"]
    if normalize != "none":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


class Explain(CommandTest):
    def make(self, **settings):
        settings = {"run.dir": self.dir / "run", "data.manifest": self.dir / "m.lmdb", "data.clips_per_video": 2,
                    "cluster.k": 3, "train.holdout": 0.1, "train.holdout_min_clips": 10,
                    **{k.replace("__", "."): v for k, v in settings.items()}}
        subprocess.run([MAKE_RUN, self.dir, *(f"{k}={v}" for k, v in settings.items())], check=True)

    def explain(self, clip, **more):
        return json.loads(self.xdc("explain", "clip", clip, "--run", "run", "--json", **more).stdout)

    def labels(self, r):
        self.xdc("labels", "run", "--round", r, "--out", "l.csv")
        with open(self.dir / "l.csv", newline="") as f:
            return list(csv.DictReader(f))

    def features(self, r):
        for name in "video", "audio":
            self.xdc("features", "run", "--round", r, "--modality", name, "--out", name + ".npy")
        return {name: np.load(self.dir / (name + ".npy")).astype(np.float64) for name in ("video", "audio")}

    def compare(self, sources, normalize):
        """Labels, sizes and distances of some clips in both rounds."""
        seen = {c: self.explain(c) for c in CLIPS}
        for r in range(2):
            labels, features = self.labels(r), self.features(r)
            for n, source in enumerate(sources):
                t = tensors(self.dir / f"run/labels/round-{r:04}.{source}.norm.safetensors")
                names = ("video", "audio") if source == "joint" else (source,)
                x = through(t, [(name, features[name]) for name in names], normalize)
                d = np.linalg.norm(x[:, None] - t["centroids"], axis=2)
                sizes = {}
                for row in labels:
                    sizes[row[source]] = sizes.get(row[source], 0) + 1
                for c, e in seen.items():
                    got = e["rounds"][r]["sources"][n]
                    self.assertEqual((e["rounds"][r]["round"], got["source"], got["k"]), (r, source, 3))
                    if c == 11:
                        self.assertIsNone(got["label"])
                        continue
                    label = int(labels[c][source])
                    self.assertEqual(got["label"], label)
                    self.assertEqual(label, d[c].argmin())
                    self.assertEqual(got["size"], sizes[str(label)])
                    near = np.argsort(d[c])
                    self.assertAlmostEqual(got["distance"], d[c][near[0]], places=5)
                    self.assertEqual(got["second"]["cluster"], near[1])
                    self.assertAlmostEqual(got["second"]["distance"], d[c][near[1]], places=5)
                    self.assertAlmostEqual(got["margin"], d[c][near[1]] - d[c][near[0]], places=5)
        return seen

    def test_clips(self):
        """Clips of a run with separate sources, whitened; what else is known of some."""
        self.make(cluster__normalize="pca-whiten-l2")
        seen = self.compare(("video", "audio"), "pca-whiten-l2")
        rows = self.labels(0)
        for c, e in seen.items():
            self.assertEqual((e["clip"], e["video"], e["uri"], e["truth"]), (c, c // 2, f"dogs/{c // 2}.mp4", "dogs"))
            self.assertAlmostEqual(e["start_s"], float(rows[c]["start_s"]), places=5)
            self.assertEqual(e["duration_s"], 9)
            t = e["training"]
            self.assertEqual(t["trained"], {7: 0, 8: 3, 11: 0}.get(c, 2))
            self.assertEqual((t["quarantined"], t["unlabelled"]), {7: (1, 0), 11: (0, 2)}.get(c, (0, 0)))
            self.assertEqual(t.get("last_step"), None if c in (7, 11) else (60 + c) // 4)
            faults = [{"code": 7, "name": e["faults"][0]["name"], "by": "doctor"}] if c in (6, 7) else []
            self.assertEqual(e["faults"], faults)
            self.assertEqual(e["held_out"], c // 2 in HELD)

    def test_joint(self):
        """Both modalities as one source, scaled, without normalisation."""
        self.make(method="cdc", cluster__normalize="none", cluster__scale="variance")
        self.compare(("joint",), "none")

    def test_text(self):
        """The same for people, by number, by uri and by uri and time."""
        self.make(cluster__normalize="l2")
        text = self.xdc("explain", "clip", 7, "--run", "run").stdout
        self.assertIn("clip 7: video 3, dogs/3.mp4, ", text)
        self.assertIn("found by the doctor; see xdc explain ", text)
        self.assertRegex(text, r"round 1\n  video    cluster \d of 3, with \d+ clips; distance [\d.]+, to the second nearest \(\d\) "
                               r"[\d.]+, margin [\d.]+\n  audio    ")
        self.assertIn("training: trained 0 times; drawn and not trained: quarantined 1, ", text)
        self.assertIn("  video    no label", self.xdc("explain", "clip", 11, "--run", "run").stdout)
        self.assertIn("decoding: no fault is known", self.xdc("explain", "clip", 12, "--run", "run").stdout)
        self.assertIn("last in step 17", self.xdc("explain", "clip", 8, "--run", "run").stdout)
        self.assertEqual(self.explain("dogs/4.mp4")["clip"], 8)
        for c in 8, 9:
            self.assertEqual(self.explain(f"dogs/4.mp4@{self.explain(c)['start_s']}")["clip"], c)
        r = self.xdc("explain", "clip", 60, "--run", "run", status=64)
        self.assertIn("there is no clip 60; those of this run are 0 to 59", r.stderr)
        self.assertIn("no video of", self.xdc("explain", "clip", "cat.mp4", "--run", "run", status=64).stderr)
        self.assertIn("no run directory", self.xdc("explain", "clip", 1, "--run", "walk", status=66).stderr)
        self.assertIn("--run", self.xdc("explain", "clip", 1, status=64).stderr)
        self.assertIn("go with clip", self.xdc("explain", "truncated", "--json", status=64).stderr)

    def test_gone(self):
        """What is no longer there is said, and the rest is told all the same; what is not sound is refused."""
        self.make()
        (self.dir / "run/features/round-0000").rename(self.dir / "aside")
        (self.dir / "run/labels/round-0001.audio.norm.safetensors").unlink()
        e = self.explain(20)
        for r, n, words in (0, 0, "the dump of its features is no longer there"), (1, 1, "no centroids are kept"):
            got = e["rounds"][r]["sources"][n]
            self.assertIn(words, got["missing"])
            self.assertNotIn("distance", got)
            self.assertGreater(got["size"], 0)
        self.assertIn("distance", e["rounds"][1]["sources"][0])
        self.assertIn("no distances: the dump", self.xdc("explain", "clip", 20, "--run", "run").stdout)
        (self.dir / "run/features/round-0001").rename(self.dir / "run/features/round-0000")
        self.assertIn("is not the one that was clustered", self.explain(20)["rounds"][0]["sources"][0]["missing"])
        kept = self.dir / "run/labels/round-0001.video.norm.safetensors"
        kept.write_bytes((self.dir / "run/labels/round-0000.video.norm.safetensors").read_bytes())
        self.assertIn("are of another clustering", self.explain(20)["rounds"][1]["sources"][0]["missing"])
        (self.dir / "run/labels/round-0000.xdcl").unlink()
        self.assertEqual([r["round"] for r in self.explain(20)["rounds"]], [1])
        for led in (self.dir / "run/ledger/rank-0").iterdir():
            led.unlink()
        self.assertEqual(self.explain(20)["training"]["missing"], "there is no ledger")
        kept.write_bytes(kept.read_bytes()[:-5])
        self.assertIn("round-0001.video.norm", self.xdc("explain", "clip", 20, "--run", "run", status=65).stderr)


main()
