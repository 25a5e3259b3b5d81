"""xdc cluster --method sinkhorn: against the published recursion written here in NumPy, what it prints, what it refuses."""
import json

import numpy as np

from common import CommandTest, main


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def linear_domain(ps, r, steps):
    """diag(b) PS diag(a) as the release makes it: products with vectors in f64; returns log a."""
    b = np.full(len(ps), 1 / len(ps))
    for _ in range(steps):
        a = r / (ps.T @ b)
        b = 1 / len(ps) / (ps @ a)
    return np.log(a)


class Sinkhorn(CommandTest):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(3)

    def logits(self, n, k, sharp, name, dtype=np.float32):
        x = (self.rng.normal(0, sharp, (n, k)) + self.rng.normal(0, 0.5, k)).astype(dtype)
        np.save(self.dir / name, x)
        return x

    def sinkhorn(self, *args):
        """Runs it on f.npy; returns labels, log alpha, and what --json printed."""
        r = self.xdc("cluster", "f.npy", "--method", "sinkhorn", "--out", "l.npy", "--alpha", "a.npy", "--json", *args)
        return np.load(self.dir / "l.npy"), np.load(self.dir / "a.npy"), json.loads(r.stdout)

    def test_against_numpy(self):
        """Rows sum to 1 / N and columns to their sizes within 1e-9, labels and cost are NumPy's, with one file and with two,
        of f32 and f16, on one thread and three the same bytes; after so many iterations alpha is the release's."""
        for n, k, audio, dtype, lam in ((1500, 12, True, np.float32, 20), (400, 7, False, np.float32, 8),
                                        (900, 33, True, np.float16, 10)):
            f = self.logits(n, k, 0.4, "f.npy", dtype)
            a = self.logits(n, k, 0.3, "a_in.npy", dtype) if audio else f
            m = (lam / 2 * (log_softmax(f) + log_softmax(a))).astype(np.float32).astype(np.float64)
            args = ["--lambda", lam, "--marginals", "zipf", "--zipf-exponent", 0.5] + (["--audio", "a_in.npy"] if audio else [])
            r = np.empty(k)
            r[np.argsort(np.exp(2 / lam * m).sum(0))] = np.sort(np.arange(1.0, k + 1) ** -0.5)
            r /= r.sum()
            labels, alpha, said = self.sinkhorn(*args, "--tolerance", 1e-10, "--iterations", 5000, "--threads", 1)
            q = np.exp(m + alpha)
            q /= n * q.sum(1, keepdims=True)
            np.testing.assert_allclose(q.sum(1), 1 / n, rtol=1e-9)
            np.testing.assert_allclose(q.sum(0), r, rtol=1e-9)
            np.testing.assert_array_equal(labels, (m + alpha).argmax(1))
            self.assertAlmostEqual(said["cost"], -m[np.arange(n), labels].mean() / lam, delta=1e-9)
            self.assertTrue(said["converged"] and said["error"] <= 1e-10)
            first = (self.dir / "l.npy").read_bytes() + (self.dir / "a.npy").read_bytes()
            self.sinkhorn(*args, "--tolerance", 1e-10, "--iterations", 5000, "--threads", 3)
            self.assertEqual((self.dir / "l.npy").read_bytes() + (self.dir / "a.npy").read_bytes(), first)
            for steps in 1, 4:
                _, alpha, said = self.sinkhorn(*args, "--tolerance", 0, "--iterations", steps)
                np.testing.assert_allclose(alpha, linear_domain(np.exp(m), r, steps), atol=1e-9)
                self.assertEqual((said["iterations"], said["converged"]), (steps, False))

    def test_published_rules(self):
        """--compat: the smallest cluster gets the largest size, and it ends by the change of the rows' scalings, looked at
        every ten iterations."""
        n, k = 600, 9
        m = 20 * log_softmax(self.logits(n, k, 0.2, "f.npy"))
        mass = np.exp(m / 10).sum(0)
        labels, alpha, said = self.sinkhorn("--compat", "--marginals", "zipf")
        r = np.empty(k)
        r[np.argsort(mass)] = np.sort(1 / np.arange(1.0, k + 1))[::-1]
        r /= r.sum()
        b = np.full(n, 1 / n)
        for i in range(2000):
            a = r / (np.exp(m).T @ b)
            new = 1 / n / (np.exp(m) @ a)
            change, b = np.abs(b / new - 1).sum(), new
            if i % 10 == 0 and change <= 0.1:
                break
        self.assertEqual(said["iterations"], i + 1)
        self.assertGreater(i, 0)
        np.testing.assert_allclose(alpha, np.log(a), atol=1e-4)

    def test_what_is_printed(self):
        """Sizes near those asked for, truth, seconds; gaussian sizes follow the seed; the same as text."""
        n, k = 2000, 10
        f = self.logits(n, k, 1.5, "f.npy")
        truth = f.argmax(1)
        np.save(self.dir / "t.npy", truth)
        labels, _, said = self.sinkhorn("--truth", "t.npy", "--marginals", "uniform", "--k", k)
        self.assertEqual((labels.dtype, labels.shape), (np.int32, (n,)))
        sizes = np.bincount(labels, minlength=k)
        self.assertEqual(said["sizes"], {"min": sizes.min(), "median": np.median(sizes), "max": sizes.max()})
        self.assertLess(sizes.max() / sizes.min(), 1.3)
        self.assertEqual(said["truth"]["rows"], n)
        self.assertAlmostEqual(said["truth"]["accuracy"], (labels == truth).mean(), delta=1e-9)
        self.assertEqual((said["method"], said["k"], said["lambda"], said["marginals"]), ("sinkhorn", k, 20, "uniform"))
        self.assertAlmostEqual(said["seconds"]["total"], sum(v for n, v in said["seconds"].items() if n != "total"), delta=1e-9)
        alphas = [self.sinkhorn("--seed", s)[1].tobytes() for s in (1, 1, 2)]
        self.assertEqual(alphas[0], alphas[1])
        self.assertNotEqual(alphas[0], alphas[2])
        text = self.xdc("cluster", "f.npy", "--method", "sinkhorn", "--out", "l.npy", "--truth", "t.npy").stdout
        self.assertRegex(text, r"^l.npy: 2000 rows into 10 clusters\ncost [\d.]+, masses off by [\d.e-]+ after \d+ iterations; "
                         r"rows in a cluster \d+ to \d+, median [\d.]+; entropy [\d.]+ of at most 2.3026\nwith the truth: rows 2000, "
                         r"nmi [\d.]+, .*\nseconds: load [\d.]+, softmax [\d.]+, iterations [\d.]+, write [\d.]+\n$")

    def test_refusals(self):
        """Files that do not fit are named, with what to do; options of the other method are refused."""
        f = self.logits(30, 5, 1, "f.npy")
        self.logits(30, 4, 1, "thin.npy")
        self.logits(29, 5, 1, "short.npy")
        bad = f.copy()
        bad[7, 2] = np.inf
        np.save(self.dir / "bad.npy", bad)
        far = f.copy()
        far[11, 2] = -3e12
        np.save(self.dir / "far.npy", far)
        for args, status, says in (
                (("f.npy", "--k", 6), 65, "f.npy has logits of 5 clusters, --k asks for 6; leave --k out"),
                (("f.npy", "--audio", "thin.npy"), 65, "thin.npy has the shape [30, 4], f.npy has [30, 5]"),
                (("f.npy", "--audio", "short.npy"), 65, "short.npy has the shape [29, 5]"),
                (("bad.npy",), 65, "bad.npy: row 7 is not finite"),
                (("f.npy", "--audio", "bad.npy"), 65, "bad.npy: row 7 is not finite"),
                (("far.npy",), 65, "far.npy: row 11 is no row of log-probabilities"),
                (("f.npy", "--lambda", 0), 64, "--lambda 0: must be a number from 0.1 to 1000"),
                (("f.npy", "--marginals", "flat"), 64, "--marginals flat: must be one of gaussian|uniform|zipf"),
                (("f.npy", "--iterations", 0), 64, "needs one at least"),
                (("f.npy", "--normalize", "l2"), 64, "--normalize is of --method kmeans"),
                (("f.npy", "--restarts", 2), 64, "--restarts is of --method kmeans"),
                ((), 64, "needs F.npy and --out"),
                (("none.npy",), 66, "none.npy")):
            r = self.xdc("cluster", *args, "--method", "sinkhorn", "--out", "no.npy", status=status)
            self.assertIn(says, r.stderr)
            self.assertFalse((self.dir / "no.npy").exists())
        self.assertIn("--compat is of --method sinkhorn",
                      self.xdc("cluster", "f.npy", "--k", 3, "--out", "no.npy", "--compat", status=64).stderr)


main()
