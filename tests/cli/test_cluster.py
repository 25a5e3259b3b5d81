"""xdc cluster: against k-means written here in NumPy, what it prints, and what it refuses."""
import json

import numpy as np

from common import CommandTest, main


def lloyd(x, centroids, iterations):
    """Plain k-means in f64; returns labels, centroids, objective."""
    x, centroids = x.astype(np.float64), centroids.astype(np.float64)

    def distances():
        return ((x[:, None, :] - centroids[None]) ** 2).sum(2)

    for _ in range(iterations):
        labels = distances().argmin(1)
        centroids = np.stack([x[labels == c].mean(0) for c in range(len(centroids))])
    d = distances()
    return d.argmin(1), centroids, d.min(1).sum()


def clouds(n, d, k, spread, offset=0.0, seed=1):
    """Rows around k places, and the place of each."""
    rng = np.random.default_rng(seed)
    where = rng.integers(0, k, n)
    where[:k] = np.arange(k)
    x = rng.normal(0, 3, (k, d))[where] + rng.normal(0, spread, (n, d)) + offset
    return x.astype(np.float32), where


class Cluster(CommandTest):
    def save(self, name, array):
        np.save(self.dir / name, array)
        return name

    def cluster(self, x, k, *args):
        """Clusters x; returns labels and what --json printed."""
        self.save("f.npy", x)
        r = self.xdc("cluster", "f.npy", "--k", k, "--out", "l.npy", "--json", *args)
        labels = np.load(self.dir / "l.npy")
        self.assertEqual((labels.dtype, labels.shape), (np.int32, (len(x),)))
        return labels, json.loads(r.stdout)

    def test_given_init(self):
        """From given centroids a few iterations give NumPy's labels, centroids and objective; f16 rows too, rows far from
        the origin too, on one thread and on three the same bytes."""
        for n, d, k, offset, dtype, tolerance in ((700, 16, 9, 0, np.float32, 1e-5), (1500, 5, 20, 50, np.float32, 1e-4),
                                                  (700, 33, 7, 0, np.float16, 1e-5)):
            x, _ = clouds(n, d, k, 1.0, offset)
            x = x.astype(dtype)
            given = x[np.random.default_rng(2).permutation(n)[:k]]
            self.save("given.npy", given)
            for iterations in 0, 1, 4:
                labels, centroids, objective = lloyd(x, given, iterations)
                found = []
                for threads in 1, 3:
                    got, said = self.cluster(x, k, "--init", "given.npy", "--iterations", iterations, "--tolerance", 0,
                                             "--threads", threads, "--centroids", "c.npy")
                    np.testing.assert_array_equal(got, labels)
                    np.testing.assert_allclose(np.load(self.dir / "c.npy"), centroids, atol=tolerance)
                    self.assertAlmostEqual(said["objective"] / objective, 1, delta=1e-5)
                    self.assertLessEqual(said["iterations"], iterations)
                    self.assertEqual(said["init"], "given.npy")
                    found.append((self.dir / "c.npy").read_bytes() + (self.dir / "l.npy").read_bytes())
                self.assertEqual(found[0], found[1])

    def test_what_is_printed(self):
        """Sizes, entropy, agreement with the truth (NaN for none of it) and the seconds of each part."""
        x, where = clouds(900, 12, 6, 0.1)
        truth = where.astype(np.int64) + 10
        truth[::7] = -1
        self.save("t.npy", truth)
        labels, said = self.cluster(x, 6, "--truth", "t.npy", "--seed", 3, "--restarts", 2)
        sizes = np.bincount(labels, minlength=6)
        self.assertEqual(said["sizes"], {"min": sizes.min(), "median": np.median(sizes), "max": sizes.max()})
        self.assertAlmostEqual(said["entropy"], -(sizes / 900 * np.log(sizes / 900)).sum(), delta=1e-9)
        self.assertAlmostEqual(said["imbalance"], 6 * ((sizes / 900) ** 2).sum(), delta=1e-9)
        self.assertEqual(said["truth"], {"rows": (truth >= 0).sum(), "nmi": 1, "ami": 1, "ari": 1, "accuracy": 1,
                                         "entropy": 0, "purity": 1})
        parts = ("load", "normalize", "init", "iterations", "write")
        self.assertTrue(all(said["seconds"][part] >= 0 for part in parts))
        self.assertAlmostEqual(sum(said["seconds"][part] for part in parts), said["seconds"]["total"], delta=1e-9)
        self.assertEqual([said[key] for key in ("file", "rows", "columns", "dim", "k", "method", "init", "normalize",
                                                "seed", "restarts", "empty")],
                         ["f.npy", 900, 12, 12, 6, "kmeans", "kmeans++", "none", 3, 2, 0])
        self.assertIsNone(self.cluster(x, 6)[1]["truth"])
        text = self.xdc("cluster", "f.npy", "--k", 6, "--out", "l.npy", "--truth", "t.npy", "--seed", 3).stdout
        self.assertIn("l.npy: 900 rows of 12 into 6 clusters\nobjective ", text)
        self.assertIn("ari 1.0000, accuracy 1.0000, entropy 0.0000, purity 1.0000\nseconds: load 0.", text)

    def test_inits(self):
        """Every choice of first centroids, repeatable by its seed, ends at a fixed point; given that again, nothing moves."""
        x, _ = clouds(3000, 8, 30, 1.5)
        for init in "kmeans++", "kmeans||", "random":
            args = ("--init", init, "--iterations", 300, "--tolerance", 0, "--centroids", "c.npy")
            first, said = self.cluster(x, 30, *args)
            self.assertEqual(said["init"], init)
            again, _ = self.cluster(x, 30, *args)
            np.testing.assert_array_equal(first, again)
            other, _ = self.cluster(x, 30, *args, "--seed", 1)
            self.assertTrue((first != other).any())
            self.cluster(x, 30, *args)
            labels, centroids, objective = lloyd(x, np.load(self.dir / "c.npy"), 1)
            np.testing.assert_array_equal(labels, first)
            self.assertAlmostEqual(said["objective"] / objective, 1, delta=1e-5)
            same, _ = self.cluster(x, 30, "--init", "c.npy", "--iterations", 0)
            np.testing.assert_array_equal(same, first)

    def test_normalize(self):
        """l2 and pca-whiten-l2 cluster the rows that NumPy makes; their centroids are given back in that space."""
        x, _ = clouds(2000, 20, 8, 0.6, offset=2)
        centred = x.astype(np.float64) - x.astype(np.float64).mean(0)
        values, vectors = np.linalg.eigh(np.cov(centred.T))
        white = centred @ vectors[:, ::-1][:, :6] / np.sqrt(values[::-1][:6])
        for how, rows, d in (("l2", centred, 20), ("pca-whiten-l2", white, 6)):
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            labels, said = self.cluster(x, 8, "--normalize", how, "--pca-dim", 6, "--centroids", "c.npy")
            self.assertEqual((said["columns"], said["dim"]), (20, d))
            means = np.stack([rows[labels == c].mean(0) for c in range(8)])
            self.assertAlmostEqual(said["objective"] / ((rows - means[labels]) ** 2).sum(), 1, delta=1e-3)
            again, _ = self.cluster(x, 8, "--normalize", how, "--pca-dim", 6, "--init", "c.npy", "--iterations", 0)
            np.testing.assert_array_equal(again, labels)
        self.assertIn("c.npy has centroids of 6 columns, the normalised rows have 5",
                      self.xdc("cluster", "f.npy", "--k", 8, "--out", "l.npy", "--normalize", "pca-whiten-l2", "--pca-dim", 5,
                               "--init", "c.npy", status=65).stderr)

    def test_refusals(self):
        """What cannot be clustered is named, with what to do; no file is written."""
        x, _ = clouds(50, 4, 5, 1.0)
        holes = x.copy()
        holes[[3, 17], 1] = np.nan, np.inf
        many = x.copy()
        many[10:20] = np.nan
        few = np.repeat(x[:4], 10, 0)
        few[0:3] = -0.0
        few[3:6] = 0.0
        for rows, args, says in (
                (holes, (), "f.npy: rows 3, 17 are not finite, or too large to square; leave such rows out: f[numpy.isfinite"),
                (many, (), "f.npy: rows 10, 11, 12, 13, 14 and more are not finite"),
                (x * 1e20, (), "and more are not finite, or too large to square"),
                (x[:4], (), "f.npy has 4 rows, too few for 5 clusters; ask for --k 4 or less"),
                (few, ("--k", 6), "only 5 of the 40 rows differ as they are clustered, too few for 6 clusters; ask for --k 5"),
                (np.outer(np.arange(1, 40), [1, 2]).astype(np.float32), ("--normalize", "l2"), "only "),
                (x.astype(np.float64), (), "f.npy is of dtype f64, f32 or f16 is needed; save it again with .astype"),
                (x[0], (), "f.npy has the shape [4], a table [rows, columns] is needed"),
                (x[:0], (), "f.npy has the shape [0, 4]"),
                (np.asfortranarray(x), (), "Fortran order"),
                (x, ("--truth", self.save("short.npy", np.zeros(49, np.int64))),
                 "short.npy has 49 classes where there are 50 rows"),
                (x, ("--truth", self.save("real.npy", np.zeros(50, np.float32))), "real.npy is of dtype f32, whole numbers"),
                (x, ("--truth", self.save("wide.npy", np.zeros((50, 2), np.int64))), "wide.npy has the shape [50, 2]"),
                (x, ("--truth", self.save("none.npy", np.full(50, -1))), "none.npy has no class"),
                (x, ("--init", self.save("four.npy", x[:4])), "four.npy holds 4 centroids; ask for --k 4, or give 5"),
                (x, ("--init", self.save("thin.npy", x[:5, :3])), "thin.npy has centroids of 3 columns, f.npy has rows of 4"),
                (x, ("--init", self.save("nan.npy", holes[:5])), "nan.npy: row 3 is not finite")):
            self.save("f.npy", rows)
            r = self.xdc("cluster", "f.npy", "--k", 5, "--out", "no.npy", *args, status=65)
            self.assertIn(says, r.stderr)
            self.assertFalse((self.dir / "no.npy").exists())

    def test_wrong_arguments(self):
        """Arguments that make no sense, and files that are not there."""
        self.save("f.npy", clouds(50, 4, 5, 1.0)[0])
        for args, status, says in (
                (("f.npy", "--k", 5), 64, "needs F.npy, --k and --out"),
                (("f.npy", "--out", "l.npy"), 64, "needs F.npy, --k and --out"),
                (("f.npy", "--k", 0, "--out", "l.npy"), 64, "--k 0: must be a whole number from 1 to 1000000"),
                (("f.npy", "--k", 5, "--out", "l.npy", "--method", "ward"), 64, "--method ward: must be one of kmeans|sinkhorn"),
                (("f.npy", "--k", 5, "--out", "l.npy", "--normalize", "l1"), 64, "--normalize l1: must be one of none|l2|pca-whiten-l2"),
                (("f.npy", "--k", 5, "--out", "l.npy", "--tolerance", "nan"), 64, "--tolerance nan: must be a number from 0 to 1"),
                (("f.npy", "--k", 5, "--out", "l.npy", "--init", "f.npy", "--restarts", 2), 64, "would all be equal"),
                (("f.npy", "--k", 5, "--out", "l.npy", "--init", "kmeanspp"), 66,
                 "--init is kmeans++, kmeans||, random or a .npy file"),
                (("g.npy", "--k", 5, "--out", "l.npy"), 66, "g.npy"),
                (("f.npy", "--k", 5, "--out", "no/such/l.npy"), 66, "no/such/l.npy")):
            self.assertIn(says, self.xdc("cluster", *args, status=status).stderr)
        self.assertTrue(self.xdc("cluster", "--help").stdout.startswith("examples:\n"))


main()
