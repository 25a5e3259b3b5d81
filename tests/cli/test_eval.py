"""xdc eval: linear classifiers and cluster figures against scikit-learn, neighbours against brute force in NumPy, and what is
refused."""
import json

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from common import CommandTest, main

FIVE = ["bee", "cow", "dog", "elk", "fox"]


def made(videos=60, test=20, clips=3, d=24, spread=2.2, classes=FIVE, seed=1):
    """Features of clips around their class's place, rows of a video not together; `videos` of each class, `test` of them for
    testing. Returns features and notes."""
    rng = np.random.default_rng(seed)
    place = rng.normal(0, 1, (len(classes), d))
    x, notes = [], []
    for v in range(videos * len(classes)):
        c = v % len(classes)
        shift = rng.normal(0, spread, d)
        for clip in range(clips):
            x.append(place[c] + shift + rng.normal(0, spread, d))
            notes.append({"video": 7 * v + 2, "uri": f"v/{v}.mp4", "clip": clip, "start_s": 0.5 * clip, "seconds": 1.0,
                          "label": classes[c], "split": "test" if v // len(classes) < test else "train"})
    mixed = rng.permutation(len(x))
    return np.float32(x)[mixed] + np.float32(0.3), [notes[i] for i in mixed]


def unit(x):
    x = x.astype(np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def of(notes, split):
    return np.array([i for i, n in enumerate(notes) if n["split"] == split])


def video_means(values, notes, rows):
    """Means of the rows of each video, by rising video, and the videos' labels."""
    ids = sorted({notes[i]["video"] for i in rows})
    members = [[i for i in rows if notes[i]["video"] == v] for v in ids]
    return np.array([values[m].astype(np.float64).mean(0) for m in members]), np.array([notes[m[0]]["label"] for m in members])


class Eval(CommandTest):
    def write(self, x, notes, name="f"):
        np.save(self.dir / f"{name}.npy", x)
        with open(self.dir / f"{name}.jsonl", "w") as f:
            for row, note in enumerate(notes):
                f.write(json.dumps({"row": row, **note}) + "\n")

    def eval(self, what, *args):
        return json.loads(self.xdc("eval", what, "f.npy", "--json", *args).stdout)

    def answers(self):
        return np.load(self.dir / "p.npy")

    def test_linear_as_scikit_learn(self):
        """With the same C the answers for test clips differ from scikit-learn's on 0.5 % at most, for the SVM in both forms of its
        solver, and videos are right as often as by the mean of scikit-learn's decision values and probabilities."""
        x, notes = made(videos=120, test=80)
        self.write(x, notes)
        labels, train, test = np.array([n["label"] for n in notes]), of(notes, "train"), of(notes, "test")
        scaled = StandardScaler().fit(x[train].astype(np.float64)).transform(x.astype(np.float64))
        peers = [("svm", c, unit(x), LinearSVC(C=c, dual=dual, random_state=0, max_iter=100000))
                 for c in (0.01, 1) for dual in (False, True)]
        peers += [("linear", c, scaled, LogisticRegression(C=c, solver="liblinear")) for c in (0.001, 0.1)]
        for what, c, rows, peer in peers:
            said = self.eval(what, "--c", c, "--out", "p.npy")
            peer.fit(rows[train], labels[train])
            theirs, ours = peer.predict(rows[test]), np.array(FIVE)[self.answers()[test]]
            self.assertLessEqual((theirs != ours).mean(), 0.005, f"{what} C {c}")
            self.assertTrue((self.answers()[train] == -1).all())
            score = peer.decision_function if what == "svm" else peer.predict_proba
            mean, truth = video_means(score(rows), notes, test)
            ranked = np.array(FIVE)[np.argsort(-mean, axis=1)]
            self.assertAlmostEqual(said["figures"]["video_top1"], (ranked[:, 0] == truth).mean(), delta=0.005)
            self.assertAlmostEqual(said["figures"]["clip_top1"], (ours == labels[test]).mean(), delta=1e-9)
            self.assertTrue(0.35 < said["figures"]["clip_top1"] < said["figures"]["video_top1"] < 0.99)
            self.assertEqual(said["figures"]["video_top5"], 1)  # of five classes
            self.assertEqual((said["c"], said["chosen_on"]), (c, None))
        peer = LinearSVC(C=self.eval("svm", "--out", "p.npy")["c"], dual=False).fit(unit(x)[train], labels[train])
        self.assertLessEqual((peer.predict(unit(x)[test]) != np.array(FIVE)[self.answers()[test]]).mean(), 0.005, "C chosen")

    def test_two_classes_and_top5(self):
        """Two classes; and with seven the five best of a video are counted as the peer's decision values say."""
        for names in FIVE[:2], ["a", "b", "c", "d", "e", "f", "g"]:
            x, notes = made(videos=40, test=20, classes=names, spread=3)
            self.write(x, notes)
            labels, train, test = np.array([n["label"] for n in notes]), of(notes, "train"), of(notes, "test")
            said = self.eval("svm", "--c", 0.1, "--out", "p.npy")
            peer = LinearSVC(C=0.1, dual=False).fit(unit(x)[train], labels[train])
            self.assertLessEqual((peer.predict(unit(x)[test]) != np.array(names)[self.answers()[test]]).mean(), 0.005)
            if len(names) > 2:
                mean, truth = video_means(peer.decision_function(unit(x)), notes, test)
                best = np.array(names)[np.argsort(-mean, axis=1)[:, :5]]
                self.assertAlmostEqual(said["figures"]["video_top5"], (best == truth[:, None]).any(1).mean(), delta=0.008)

    def test_choice_of_c(self):
        """C is the one with most held-out videos right, the least of equal ones; a fifth of each class's train videos is held out.
        Neither the labels nor the features of test change the choice, nor does the number of threads; videos of val are
        used in train's place."""
        x, notes = made()
        self.write(x, notes)
        said = self.eval("svm", "--threads", 1)
        grid, found = said["repeats"][0]["grid"], said["repeats"][0]
        self.assertEqual([g["c"] for g in grid], [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])
        self.assertEqual((found["held_out"], found["fitted"], said["chosen_on"]), (40, 200, "train"))
        self.assertEqual(said["c"], grid[int(np.argmax([g["right"] for g in grid]))]["c"])
        self.assertGreater(len({g["right"] for g in grid}), 1)
        again = self.eval("svm", "--threads", 3)
        self.assertEqual({**again, "seconds": 0}, {**said, "seconds": 0})
        rng, test = np.random.default_rng(5), of(notes, "test")
        videos = sorted({notes[i]["video"] for i in test})
        shuffled = dict(zip(videos, rng.permutation([FIVE[(v - 2) // 7 % 5] for v in videos])))
        other = [{**n, "label": shuffled[n["video"]]} if n["split"] == "test" else n for n in notes]
        x[test] = rng.normal(0, 1, x[test].shape)
        self.write(x, other)
        blind = self.eval("svm")
        self.assertEqual((blind["c"], blind["repeats"][0]["grid"]), (said["c"], grid))
        self.assertLess(blind["figures"]["video_top1"], 0.4)
        val = [{**n, "split": "val"} if (n["video"] - 2) // 7 >= 250 else n for n in notes]
        self.write(x, val)
        said = self.eval("linear", "--c", "1e-3,1,1e-3")
        self.assertEqual((said["repeats"][0]["held_out"], said["repeats"][0]["fitted"], said["chosen_on"]), (50, 150, "val"))
        self.assertEqual([g["c"] for g in said["repeats"][0]["grid"]], [1e-3, 1])

    def test_shots(self):
        """N train videos a class, other ones in every repeat and with every seed; mean and deviation are those of the repeats."""
        x, notes = made()
        self.write(x, notes)
        said = self.eval("linear", "--shots", 4, "--repeats", 3, "--seed", 2)
        top1 = [r["figures"]["video_top1"] for r in said["repeats"]]
        self.assertEqual([(r["fitted"], r["held_out"]) for r in said["repeats"]], [(20, 5)] * 3)
        self.assertGreater(len(set(top1)), 1)
        self.assertAlmostEqual(said["figures"]["video_top1"], np.mean(top1), delta=1e-12)
        self.assertAlmostEqual(said["deviations"]["video_top1"], np.std(top1, ddof=1), delta=1e-12)
        self.assertEqual(sum(c["right"] for c in said["per_class"]), round(sum(top1) * 100))
        self.assertEqual(self.eval("linear", "--shots", 4, "--seed", 2)["repeats"][0], said["repeats"][0])
        self.assertNotEqual(self.eval("linear", "--shots", 4, "--seed", 3)["repeats"][0], said["repeats"][0])
        full = self.eval("linear", "--c", 0.01)["figures"]["video_top1"]
        self.assertLess(said["figures"]["video_top1"], full)
        one = self.eval("svm", "--shots", 1, "--c", 1, "--repeats", 2)
        self.assertEqual(one["repeats"][0]["fitted"], 5)

    def test_neighbours(self):
        """kNN by every metric and vote, and recall, as brute force over the same means in f64; equal rows in gallery order; wide
        rows whose f32 products cannot tell neighbours apart."""
        for d, spread, scale, offset, double in ((24, 2.2, 1, 0, False), (700, 5, 0.01, 60, True)):
            x, notes = made(d=d, spread=spread)
            x = x * np.float32(scale) + np.float32(offset)
            if double:  # every third video is a copy of the one before it
                for i, n in enumerate(notes):
                    if (n["video"] - 2) // 7 % 3 == 1:
                        x[i] = x[next(j for j, m in enumerate(notes) if m["video"] == n["video"] - 7 and m["clip"] == n["clip"])]
            self.write(x, notes)
            q, q_label = (a for a in video_means(unit(x), notes, of(notes, "test")))
            g, g_label = (a for a in video_means(unit(x), notes, of(notes, "train")))
            q, g = q.astype(np.float32), g.astype(np.float32)
            near = self.nearest(q, g)[0]
            said = self.eval("retrieval", "--out", "p.npy", "--threads", 3)
            self.assertTrue(0.2 < said["figures"]["r@1"] < 0.9)
            for k in 1, 5, 10, 20, 50:
                self.assertEqual(said["figures"][f"r@{k}"], (g_label[near[:, :k]] == q_label[:, None]).any(1).mean())
            first = dict(zip(sorted({notes[i]["video"] for i in of(notes, "test")}), g_label[near[:, 0]]))
            found = self.answers()
            self.assertTrue(all(FIVE[found[i]] == first[notes[i]["video"]] for i in of(notes, "test")))
            for metric, vote in (("l2", "plain"), ("cosine", "plain"), ("cosine", "weighted")):
                near, squares = self.nearest(q, g) if metric == "l2" else self.nearest(unit(q), unit(g))
                for k in 1, 20:
                    said = self.eval("knn", "--k", k, "--metric", metric, "--vote", vote)
                    top = [self.vote(g_label[near[i, :k]], squares[i, :k], vote) for i in range(len(q))]
                    self.assertEqual(said["figures"]["video_top1"], np.mean([t[0] == l for t, l in zip(top, q_label)]))
                    self.assertEqual(said["figures"]["video_top5"], np.mean([l in t[:5] for t, l in zip(top, q_label)]))

    def nearest(self, q, g):
        squares = ((q[:, None].astype(np.float64) - g[None].astype(np.float64)) ** 2).sum(2)
        order = np.argsort(squares, axis=1, kind="stable")
        return order, np.take_along_axis(squares, order, 1)

    def vote(self, labels, squares, kind):
        """Classes by votes, then by the place of their nearest neighbour."""
        votes = {}
        for label, square in zip(labels, squares):
            votes[label] = votes.get(label, 0) + (np.exp((1 - square / 2) / 0.07) if kind == "weighted" else 1)
        return sorted(votes, key=lambda c: -votes[c])  # stable: first come, first

    def test_clusters(self):
        """Every figure as scikit-learn, SciPy and NumPy make it of the written clusters, of all rows, of test's, of videos."""
        x, notes = made(spread=0.7)
        for i in range(0, len(notes), 9):
            for n in (n for n in notes if n["video"] == notes[i]["video"]):
                n["label"] = None
        self.write(x, notes)
        for args, n, split in ((("--k", 7), 900, None), (("--split", "test", "--normalize", "l2"), 300, "test"),
                               (("--by", "video", "--restarts", 2), 300, None)):
            said = self.eval("cluster", "--out", "p.npy", *args)
            found = self.answers()
            self.assertEqual((said["clustered"], said["k"]), (n, 7 if "--k" in args else 5))
            rows = [i for i in range(len(notes)) if split in (None, notes[i]["split"])]
            self.assertTrue((np.delete(found, rows) == -1).all())
            if "--by" in args:
                rows = [next(i for i in rows if notes[i]["video"] == v) for v in sorted({n["video"] for n in notes})]
            rows = [i for i in rows if notes[i]["label"]]
            truth, ours = np.array([FIVE.index(notes[i]["label"]) for i in rows]), found[rows]
            self.assertEqual(said["compared"], len(rows))
            table = metrics.cluster.contingency_matrix(ours, truth)
            shares = table / table.sum(1, keepdims=True)
            best = table[linear_sum_assignment(-table)].sum()
            logs = np.log(np.where(shares > 0, shares, 1))
            for name, value in (("nmi", metrics.normalized_mutual_info_score(truth, ours)),
                                ("ami", metrics.adjusted_mutual_info_score(truth, ours)),
                                ("ari", metrics.adjusted_rand_score(truth, ours)), ("accuracy", best / len(rows)),
                                ("entropy", -(shares * logs).sum(1).mean()), ("purity", shares.max(1).mean())):
                self.assertAlmostEqual(said["figures"][name], value, delta=1e-9, msg=f"{args} {name}")
            self.assertTrue(0.2 < said["figures"]["ami"] <= 1)

    def test_foreign(self):
        """Arrays of labels and row numbers say the same as lines do; numbers are classes in their order, f16 features are read,
        negative labels are left out, and k-means needs labels alone."""
        x, notes = made(clips=1, classes=["2", "9", "10", "30", "4"])
        self.write(x.astype(np.float16), notes)
        names = {"2": 0, "4": 1, "9": 2, "10": 3, "30": 4}
        y = np.array([int(n["label"]) for n in notes], np.int32)
        for name, a in (("y", y), ("i", of(notes, "train")), ("j", of(notes, "test").astype(np.uint32))):
            np.save(self.dir / f"{name}.npy", a)
        arrays = ("--labels", "y.npy", "--train", "i.npy", "--test", "j.npy")
        lines = self.eval("svm", "--c", 0.1, "--out", "p.npy")
        self.assertEqual([c["class"] for c in lines["per_class"]], list(names))
        self.assertEqual(lines["figures"]["clip_top1"], lines["figures"]["video_top1"])
        found = self.answers()
        foreign = self.eval("svm", "--c", 0.1, "--out", "p.npy", *arrays)
        self.assertTrue((found == self.answers()).all())
        self.assertEqual(foreign["figures"], lines["figures"])
        self.assertEqual(self.eval("retrieval", *arrays)["figures"], self.eval("retrieval")["figures"])
        for row in of(notes, "train")[:6]:
            y[row] = -1
        np.save(self.dir / "y.npy", y)
        self.assertEqual(self.eval("svm", "--c", 0.1, *arrays)["left_out"]["no_label"], {"videos": 6, "rows": 6})
        self.assertEqual(self.eval("cluster", "--labels", "y.npy")["compared"], 294)

    def test_left_out(self):
        """What has no label or no split is counted, as are classes that test or train lacks; the latter's videos are wrong, or all is
        refused. The table says the same."""
        x, notes = made(videos=12, test=4)
        for n in notes:
            v = (n["video"] - 2) // 7
            if v in (21, 22):
                n["label"] = None
            elif v == 24:
                del n["split"]
            elif v % 5 == 0 and n["split"] == "test":
                n["split"] = None  # no bee is tested
            elif v % 5 == 4 and n["split"] == "train":
                n["label"] = "ape"  # no fox is learnt, and no ape is tested
        self.write(x, notes)
        said = self.xdc("eval", "knn", "f.npy", "--k", 3, status=65).stderr
        self.assertRegex(said, r"f.npy: 4 test videos are of 1 classes that no train video has \(fox; the first is row \d+\)")
        for what in "knn", "svm", "linear", "retrieval":
            said = self.eval(what, "--allow-unseen")
            self.assertEqual(said["left_out"], {"no_label": {"videos": 2, "rows": 6}, "no_split": {"videos": 5, "rows": 15}})
            self.assertEqual(said["without_train"], {"classes": ["fox"], "videos": 4})
            self.assertEqual(said["without_test"], {"classes": ["ape", "bee"], "videos": 15})
            by_class = {c["class"]: c for c in said["per_class"]}
            self.assertEqual(by_class["fox"], {"class": "fox", "train": 0, "test": 4, "right": 0, "accuracy": 0})
            self.assertEqual((by_class["bee"]["train"], by_class["bee"]["test"], by_class["bee"]["accuracy"]), (8, 0, None))
            self.assertEqual(said["splits"]["test"], {"videos": 16, "rows": 48})
            figures = said["figures"]
            self.assertEqual(sum(c["right"] for c in said["per_class"]), round(16 * figures.get("video_top1", figures.get("r@1"))))
            if what == "svm":
                self.assertLessEqual(figures["video_top5"], 0.75)
            if what == "retrieval":
                self.assertIsNone(figures["r@50"])  # there are fewer train videos
        text = self.xdc("eval", "svm", "f.npy", "--allow-unseen").stdout
        for part in ("left out: 2 videos (6 clips) without a label", "left out: 5 videos (15 clips) with a label but of no split",
                     "classes without train videos (1, 4 videos of test, all wrong): fox\n",
                     "classes without test videos (2, 15 videos of train): ape, bee\n", "C ", "video_top1"):
            self.assertIn(part, text)

    def test_bad_files(self):
        """Files that do not fit are refused by name, with the row."""
        x, notes = made(videos=4, test=2)
        n = len(notes)

        def changed(which, **keys):
            return [{**m, **keys} if i == which else m for i, m in enumerate(notes)]

        nan = x.copy()
        nan[17, 3] = np.nan
        one = [{**m, "label": "dog"} for m in notes]
        last = notes[-1]["video"]
        for features, lines, says in (
                (nan, notes, "f.npy: row 17 is not finite"),
                (x.astype(np.float64), notes, "f.npy is of dtype f64"),
                (x[0], notes, "f.npy has the shape [24]"),
                (x, notes[:-1], f"f.jsonl has {n - 1} lines, the features have {n} rows"),
                (x[:-1], notes, f"f.jsonl has more lines than the {n - 1} rows"),
                (x, changed(5, row=6), 'f.jsonl: line 6 must have "row": 5'),
                (x, changed(5, video="x"), 'f.jsonl: row 5: "video" must be a number'),
                (x, changed(5, split="dev"), "f.jsonl: row 5: the split is dev"),
                (x, changed(5, label=[1]), "f.jsonl: row 5: the label is neither"),
                (x, changed(n - 1, label="yak"), f"are of video {last} but have the labels"),
                (x, changed(n - 1, split=None), f"are of video {last} but in different splits"),
                (x, [{**m, "split": "test"} for m in notes], "f.npy: no row of the split train has a label"),
                (x, [{**m, "split": "train"} for m in notes], "f.npy: no row of the split test has a label"),
                (x, [{**m, "label": None} for m in notes], "f.npy: no row of the split train has a label"),
                (x, one, "f.npy: all rows of the split train are of one class")):
            self.write(features, lines)
            self.assertIn(says, self.xdc("eval", "svm", "f.npy", status=65).stderr)
        self.write(x, one)
        self.assertIn("has 1 classes; two are needed", self.xdc("eval", "cluster", "f.npy", status=65).stderr)
        self.write(x, notes)
        for args, says in ((("svm", "--shots", 3), "has 2 train videos, --shots needs 3"),
                           (("knn", "--k", 11), "--k 11 neighbours of 10 train videos"),
                           (("cluster", "--k", 61), "--k 61 clusters of 60 rows"),
                           (("cluster", "--split", "val"), "no row is of that split")):
            self.assertIn(says, self.xdc("eval", args[0], "f.npy", *args[1:], status=65).stderr)
        (self.dir / "f.jsonl").write_text("[]\n" * n)
        self.assertIn("f.jsonl: row 0: no JSON object", self.xdc("eval", "svm", "f.npy", status=65).stderr)
        (self.dir / "f.jsonl").unlink()
        self.assertIn("give --labels", self.xdc("eval", "svm", "f.npy", status=66).stderr)
        self.assertIn("g.npy", self.xdc("eval", "svm", "g.npy", status=66).stderr)

    def test_bad_arrays(self):
        """The same of arrays."""
        x, notes = made(videos=4, test=2)
        self.write(x, notes)
        y = np.array([FIVE.index(m["label"]) for m in notes])
        good = {"y": y, "i": of(notes, "train"), "j": of(notes, "test")}
        for bad, says in (({"y": y[:-1]}, "y.npy has 59 labels, the features have 60 rows"),
                          ({"y": y.astype(np.float32)}, "y.npy is of dtype f32, whole numbers are needed"),
                          ({"i": good["i"][:, None]}, "i.npy has the shape [30, 1]"),
                          ({"j": np.array([3, 60])}, "j.npy: number 1 is row 60, the features have 60"),
                          ({"i": np.array([3, 4, 3])}, "i.npy: row 3 is listed twice"),
                          ({"j": good["i"][:2]}, f"j.npy: row {good['i'][0]} is in train as well"),
                          ({"i": np.array([], np.int64)}, "no row of the split train has a label")):
            for name, a in {**good, **bad}.items():
                np.save(self.dir / f"{name}.npy", a)
            said = self.xdc("eval", "svm", "f.npy", "--labels", "y.npy", "--train", "i.npy", "--test", "j.npy", status=65)
            self.assertIn(says, said.stderr)

    def test_arguments(self):
        """Wrong arguments are refused before anything is read."""
        for args, says in ((("svm",), "needs one F.npy"), (("tree", "f.npy"), "needs one of svm|linear"), ((), "needs one of"),
                           (("svm", "f.npy", "--c", "1,x"), "--c 1,x: must be"), (("svm", "f.npy", "--k", 3), "wrong arguments"), (("retrieval", "f.npy", "--shots", 3), "wrong arguments"),
                           (("svm", "f.npy", "--shots", 1), "--shots 1 leaves nothing to hold out"),
                           (("svm", "f.npy", "--train", "i.npy"), "go with --labels"),
                           (("knn", "f.npy", "--labels", "l.npy"), "--labels needs --train and --test"),
                           (("knn", "f.npy", "--metric", "l2", "--vote", "weighted"), "is of --metric cosine"),
                           (("knn", "f.npy", "--temperature", 1), "is of --vote weighted"),
                           (("linear", "f.npy", "--repeats", 2, "--out", "p.npy"), "--out is of one repeat"),
                           (("cluster", "f.npy", "--normalize", "standard"), "must be one of l2|none")):
            self.assertIn(says, self.xdc("eval", *args, status=64).stderr)
        for args in ("--help",), ("svm", "--help"):
            self.assertTrue(self.xdc("eval", *args).stdout.startswith("examples:\n"))


main()
