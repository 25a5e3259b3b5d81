"""Labels of the method selavi by the real clusterer against NumPy in f64 (written with 1.24).

Usage: test_selavi.py BIN_DIR SEAL_SELAVI_PROGRAM
"""
import itertools
import json
import pathlib
import struct
import subprocess
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from xdctest import Place

BIN, SEAL = sys.argv[1:3]
K, DIMS, GROUPS, HEADS, SEED, VIDEOS = 6, {"video": 24, "audio": 16}, 2, 4, 5, 700
MASK = (1 << 64) - 1


def mix(x):
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ x >> 27) * 0x94d049bb133111eb & MASK
    return x ^ x >> 31


def normals(seed, purpose, number, n):
    """The first n of the numbers that are normal and a function of this key (lib/rng.h)."""
    step = 0x9e3779b97f4a7c15
    h = mix(seed + step & MASK)
    for c in purpose.encode():
        h = mix(h ^ c)
    for a in number, 0, 0:
        h = mix(h + step & MASK) ^ a
    state, out = mix(h + step & MASK), []
    for _ in range(2 * n):
        state = state + step & MASK
        out.append((mix(state) >> 11) * 2.0 ** -53)
    u, v = 1 - np.array(out[::2]), np.array(out[1::2])
    return np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))


def make_heads(rng, mlp):
    """Heads 0 to HEADS - 1 of both encoders, by the names of PyTorch's modules."""
    out = {}
    for name, d in DIMS.items():
        for h in range(HEADS):
            at = f"{name}.heads.{h}."
            if mlp:
                out[at + "1.weight"] = rng.normal(0, 1 / np.sqrt(d), (d, d))
                out[at + "2.weight"] = rng.uniform(0.5, 2, d)
                out[at + "2.bias"] = rng.normal(0, 0.3, d)
                out[at + "2.running_mean"] = rng.normal(0, 0.3, d)
                out[at + "2.running_var"] = rng.uniform(0.2, 3, d)
            last = at + ("5." if mlp else "")
            out[last + "weight"] = rng.normal(0, 0.6 / np.sqrt(d), (K, d))
            out[last + "bias"] = rng.normal(0, 0.2, K)
    return {n: t.astype(np.float32) for n, t in out.items()}


def log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def head_output(heads, name, h, x):
    w = {n.split(".", 3)[3]: t.astype(np.float64) for n, t in heads.items() if n.startswith(f"{name}.heads.{h}.")}
    if "5.weight" in w:
        x = x @ w["1.weight"].T
        x = (x - w["2.running_mean"]) / np.sqrt(w["2.running_var"] + 1e-5) * w["2.weight"] + w["2.bias"]
        x = np.maximum(x, 0)
        w = {"weight": w["5.weight"], "bias": w["5.bias"]}
    return log_softmax(x @ w["weight"].T + w["bias"])


def sinkhorn(m, sizes, tolerance, most, compat):
    """As the published code does it, but with logarithms; returns log alpha, iterations, error."""
    n = len(m)
    log_b = np.full(n, -np.log(n))

    def log_sum(x, axis):
        top = x.max(axis, keepdims=True)
        return np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)
    for i in range(most):
        log_a = np.log(sizes) - log_sum(m + log_b[:, None], 0)
        new = -np.log(n) - log_sum(m + log_a, 1)
        change = np.abs(np.exp(log_b - new) - 1).sum()
        log_b = new
        error = np.abs(np.exp(m + log_a + log_b[:, None]).sum(0) / sizes - 1).max()
        if (i % 10 == 0 and change <= 0.1) if compat else error <= tolerance:
            break
    return log_a, i + 1, error


def make_sizes(how, h):
    if how == "gaussian":
        sizes = np.maximum(1 + 0.3 * normals(SEED, "marginals", h, K), 0.01)
    else:
        sizes = np.arange(1.0, K + 1) ** -0.8 if how == "zipf" else np.ones(K)
    return sizes / sizes.sum()


def best_permutation(cost):
    return min(itertools.permutations(range(K)), key=lambda p: cost[np.arange(K), list(p)].sum())


class Selavi(unittest.TestCase):
    def setUp(self):
        self.place = Place(BIN)
        self.dir = pathlib.Path(self.place.dir)
        self.addCleanup(self.place.close)
        self.rng = np.random.default_rng(7)
        self.truth = self.rng.integers(-1, K, VIDEOS).astype(np.int32)
        np.save(self.dir / "truth.npy", self.truth)

    def make_features(self):
        """Classes show in both modalities; some clips lack one of them."""
        out = {}
        for g in range(GROUPS):
            for name, d in DIMS.items():
                places = np.random.default_rng(len(name) + d).normal(0, 2, (K + 1, d))
                x = (places[self.truth] + self.rng.normal(0, 1, (VIDEOS, d))).astype(np.float32)
                x[self.rng.random(VIDEOS) < 0.03] = np.nan
                out[f"{name}-g{g}"] = x
        return out

    def configure(self, **options):
        self.options = dict({"align": "true", "compat": "false", "marginals": "gaussian"}, **options)
        (self.dir / "xdc.yaml").write_text(f"""
run: {{dir: run, seed: {SEED}}}
data: {{manifest: manifest.lmdb, clips_per_video: 1}}
method: selavi
selavi: {{heads: {HEADS}, groups: {GROUPS}, lambda: 20, tolerance: 1e-6, iterations: 1000, marginals: {self.options["marginals"]},
  marginal_sd: 0.3, zipf_exponent: 0.8, align: {self.options["align"]}, compat: {self.options["compat"]}}}
cluster: {{k: {K}, interval_s: 0.1, threads: 2}}
train: {{holdout: 0.1, holdout_min_clips: 10}}
""")

    def seal(self, round_, heads, features):
        """Seals a dump; returns the clips of the hold-out."""
        args = [f"{n}={self.dir / n}.npy" for n in features]
        for n, x in features.items():
            np.save(self.dir / f"{n}.npy", x)
        if heads:
            write_safetensors(self.dir / "heads", heads)
        r = subprocess.run([SEAL, self.dir / "xdc.yaml", self.dir / "truth.npy", str(round_),
                            self.dir / "heads" if heads else "-", *args], stdout=subprocess.PIPE, check=True, text=True)
        return np.array([int(c) for c in r.stdout.split()])

    def cluster(self, round_):
        """Runs the clusterer until it has the table; returns its labels [heads, clips] (-1: none), quality, and what it said."""
        daemon = self.place.start("xdc-clusterer", "-c", self.dir / "xdc.yaml")
        path = self.dir / f"run/labels/round-{round_:04}.xdcl"
        self.place.wait("a table", path.exists)

        def told():  # "last" alone may be of the round before, which it has found at its start
            s = self.place.status("clusterer") or {}
            return s.get("tables") and s.get("last")
        status = self.place.wait("an idle clusterer", told)
        _, said = self.place.stop(daemon)
        raw = path.read_bytes()
        (size,), (sources,) = struct.unpack_from("<Q", raw, 48), struct.unpack_from("<I", raw, 64)
        labels = []
        for s in range(sources):
            name, k, width, at = struct.unpack_from("<32sIIQ", raw, 72 + 48 * s)
            self.assertEqual((name.rstrip(b"\0").decode(), k, width), (f"joint-h{s}", K, 1))
            labels.append(np.frombuffer(raw, np.int8, VIDEOS, at).astype(int))
        return np.array(labels), json.loads(raw[72 + 48 * sources:][:size]), status, said

    def expect(self, h, round_, heads, features, group, held):
        """One head's labels and figures by NumPy; how far each label is from the next."""
        both = [features[f"{name}-g{group}"] for name in DIMS]
        there = ~np.isnan(both[0][:, 0]) & ~np.isnan(both[1][:, 0])
        p = [head_output(heads, name, h, x[there].astype(np.float64)) for name, x in zip(DIMS, both)]
        rows = ~np.isin(np.flatnonzero(there), held)
        order = None
        if round_ == 0 and self.options["align"] == "true":
            cost = np.abs(np.exp(p[0][rows])[:, :, None] - np.exp(p[1][rows])[:, None, :]).sum(0)
            order = list(best_permutation(cost))
            p[1] = p[1][:, order]
        m = 10 * (p[0] + p[1])
        sizes, mass = make_sizes(self.options["marginals"], h), np.exp(p[0] + p[1])[rows].sum(0)
        compat = self.options["compat"] == "true"
        dealt = np.empty(K)
        dealt[np.argsort(mass)] = np.sort(sizes)[::-1] if compat else np.sort(sizes)
        log_a, iterations, error = sinkhorn(m[rows], dealt, 1e-6, 1000, compat)
        score = m + log_a
        labels = np.full(VIDEOS, -1)
        labels[there] = score.argmax(1)
        margin = np.full(VIDEOS, np.inf)
        margin[there] = np.diff(np.sort(score, 1)[:, -2:], axis=1)[:, 0]
        cost = -m[rows][np.arange(rows.sum()), score[rows].argmax(1)].mean() / 20
        return labels, margin, {"order": order, "cost": cost, "iterations": iterations, "error": error, "n": rows.sum(),
                                "held_out": (~rows).sum()}

    def check(self, round_, heads, features, held, expect_alignment):
        labels, quality, status, said = self.cluster(round_)
        figures, alignment, costs = quality["sources"], quality.get("alignment", {}), []
        self.assertEqual(sorted(figures[f"joint-h{h}"]["group"] for h in range(HEADS)), [0, 0, 1, 1])
        for h in range(HEADS):
            f = figures[f"joint-h{h}"]
            want, margin, w = self.expect(h, round_, heads, features, f["group"], held)
            self.assertEqual(alignment.get(f"joint-h{h}"), w["order"] if expect_alignment else None)
            differ = labels[h] != want
            self.assertTrue((margin[differ] < 1e-3).all(), f"head {h}: {differ.sum()} labels differ")
            self.assertLessEqual(differ.sum(), 2)
            self.assertAlmostEqual(f["cost"], w["cost"], delta=1e-4)
            self.assertEqual((f["n"], f["held_out"], f["k"], f["converged"]), (w["n"], w["held_out"], K, True))
            self.assertLessEqual(abs(f["iterations"] - w["iterations"]), 1)
            self.assertTrue(f["error"] <= 1e-6 or self.options["compat"] == "true")
            self.assertEqual(f["sizes"]["max"], np.bincount(labels[h][labels[h] >= 0]).max())
            costs.append(f["cost"])
        self.assertEqual(quality["best_head"], f"joint-h{np.argmin(costs)}")
        for key in "nmi_truth", "ami_truth", "ari_truth", "accuracy_truth", "entropy_truth", "purity_truth":
            self.assertAlmostEqual(quality["mean"][key], np.mean([f[key] for f in figures.values()]), delta=1e-9)
        self.assertEqual(quality["method"], "selavi")
        self.assertNotIn("alignment", status)
        self.assertIn(f"round {round_}: {HEADS} heads, of which {quality['best_head']} has the lowest cost", said)
        return labels, quality

    def test_mlp_heads(self):
        """Heads with a hidden layer, aligned, gaussian sizes; the next round keeps its sizes, is not aligned, and tells how
        far it agrees with this one. Made again, a table has the same bytes."""
        self.configure()
        heads, features = make_heads(self.rng, True), self.make_features()
        held = self.seal(0, heads, features)
        self.assertEqual(len(held), VIDEOS // 10)
        labels, _ = self.check(0, heads, features, held, True)
        path = self.dir / "run/labels/round-0000.xdcl"
        first = path.read_bytes()
        path.unlink()
        self.cluster(0)
        self.assertEqual(path.read_bytes(), first)
        heads = {n: t * np.float32(1.1) if "var" not in n else t for n, t in heads.items()}
        self.seal(1, heads, features)
        later, quality = self.check(1, heads, features, held, False)
        for h in range(HEADS):
            self.assertGreater(quality["sources"][f"joint-h{h}"]["nmi_previous"], 0.1)

    def test_linear_heads(self):
        """Linear heads; sizes by Zipf, equal ones, and the published code's rules; no alignment."""
        heads, features = make_heads(self.rng, False), self.make_features()
        for i, options in enumerate(({"marginals": "zipf"}, {"marginals": "uniform"}, {"compat": "true"})):
            self.configure(align="false", **options)
            held = self.seal(i, heads, features)
            self.check(i, heads, features, held, False)

    def refused(self, says):
        """The clusterer goes on and says what is wrong."""
        daemon = self.place.start("xdc-clusterer", "-c", self.dir / "xdc.yaml")
        failed = self.place.wait("a failure", lambda: (self.place.status("clusterer") or {}).get("failed"))
        self.place.stop(daemon)
        self.assertIn(says, failed["0"])
        self.assertFalse((self.dir / "run/labels/round-0000.xdcl").exists())

    def test_refusals(self):
        """Dumps that do not fit the configuration or their heads."""
        self.configure()
        features = self.make_features()
        at = "run/features/round-0000/rank-0/heads.safetensors"
        heads = make_heads(self.rng, True)
        self.seal(0, None, features)
        self.refused("the dump of round 0 was sealed without heads")
        self.seal(0, heads, features)
        (self.dir / at).unlink()
        self.refused("heads.safetensors: No such file")
        self.seal(0, heads, features)
        raw = bytearray((self.dir / at).read_bytes())
        raw[-1] ^= 1
        (self.dir / at).write_bytes(raw)
        self.refused("its dump was sealed with")
        for change, says in (
                ({"audio.heads.2.5.weight": None}, "heads.safetensors has no tensor audio.heads.2.weight"),
                ({"audio.heads.2.2.running_var": None}, "has no tensor audio.heads.2.2.running_var"),
                ({"video.heads.3.5.bias": np.zeros(K + 1, np.float32)},
                 f"the tensor video.heads.3.5.bias has the shape [{K + 1}], the dump's features and cluster.k make it [{K}]"),
                ({"video.heads.0.1.weight": np.zeros((24, 16), np.float32)},
                 "video.heads.0.1.weight has the shape [24, 16], the dump's features and cluster.k make it [24, 24]"),
                ({"video.heads.1.5.weight": np.full((K, 24), np.inf, np.float32)},
                 "video.heads.1.5.weight holds a value that is not finite")):
            changed = {n: t for n, t in {**heads, **change}.items() if t is not None}
            self.seal(0, changed, features)
            self.refused(says)
        self.seal(0, heads, {n: x for n, x in features.items() if n != "audio-g1"})
        self.refused("has no features of the encoder audio-g1")
        self.seal(0, heads, {n: x if n[0] == "v" else np.full_like(x, np.nan) for n, x in features.items()})
        self.refused("no clip has features of both modalities")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], warnings="ignore")
