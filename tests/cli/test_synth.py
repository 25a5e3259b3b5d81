"""xdc synth: the set it writes, that it writes it again the same, and what it refuses."""
import csv
import json
import os
import unittest
from collections import Counter

from common import CommandTest, main


class Synth(CommandTest):
    def rows(self, name="set"):
        with open(self.dir / name / "labels.csv", newline="") as f:
            return list(csv.DictReader(f))

    def files(self, name="set"):
        return {p.name: p.read_bytes() for p in (self.dir / name / "videos").iterdir()}

    def test_help_starts_with_examples(self):
        """--help shows a command to copy before anything else."""
        self.assertTrue(self.xdc("synth", "--help").stdout.startswith("examples:\n  xdc synth --out"))

    def test_set(self):
        """Every row of labels.csv is a file, classes and splits are balanced, and the summary counts right."""
        r = self.xdc("synth", "--out", "set", "--videos", 10, "--classes", 2, "--flaws", "--json")
        summary, rows, files = json.loads(r.stdout), self.rows(), self.files()
        self.assertEqual((summary["videos"], summary["classes"], summary["flaws"]), (10, 2, 4))
        self.assertEqual({row["path"] for row in rows}, {f"videos/{n}" for n in files})
        self.assertEqual(summary["size_bytes"], sum(map(len, files.values())))
        self.assertEqual(Counter((row["label"], row["split"]) for row in rows),
                         {("c0", "train"): 4, ("c1", "train"): 4, ("c0", "test"): 1, ("c1", "test"): 1,
                          ("", "train"): 4})
        self.assertEqual({n for n in files if n.startswith("flaw")},
                         {f"flaw-{kind}-0000.mp4" for kind in ("silent", "short", "truncated", "noaudio")})

    def test_same_seed_same_bytes(self):
        """The number of jobs changes nothing; the seed does."""
        self.xdc("synth", "--out", "a", "--videos", 3, "--seed", 5, "--jobs", 1)
        self.xdc("synth", "--out", "b", "--videos", 3, "--seed", 5, "--jobs", 3)
        self.xdc("synth", "--out", "c", "--videos", 3, "--seed", 6)
        self.assertEqual(self.files("a"), self.files("b"))
        self.assertEqual(self.rows("a"), self.rows("b"))
        self.assertNotEqual(self.files("a"), self.files("c"))

    def test_existing_set(self):
        """A set is replaced with --force alone, without rests of a larger one and without touching other files."""
        self.xdc("synth", "--out", "set", "--videos", 3, "--flaws")
        (self.dir / "set" / "videos" / "mine.mp4").write_text("not a video of xdc")
        before = self.files()
        r = self.xdc("synth", "--out", "set", "--videos", 2, status=73)
        self.assertIn("--force", r.stderr)
        self.assertEqual(self.files(), before)
        (self.dir / "set" / "labels.csv").unlink()
        self.xdc("synth", "--out", "set", "--videos", 2, status=73)
        self.assertEqual(self.files(), before)
        self.xdc("synth", "--out", "set", "--videos", 2, "--force")
        self.assertEqual(set(self.files()), {"00000.mp4", "00001.mp4", "mine.mp4"})
        self.assertEqual(len(self.rows()), 2)

    def test_wrong_arguments(self):
        """Each wrong argument is exit 64, and nothing is made."""
        for args in ([], ["--out"], ["--out", ""], ["--out", "x", "--videos", "0"], ["--out", "x", "--videos", "-3"],
                     ["--out", "x", "--videos", "1e3"], ["--out", "x", "--classes", "1"],
                     ["--out", "x", "--classes", "65"], ["--out", "x", "--jobs", "0"],
                     ["--out", "x", "--seed", "one"], ["--out", "x", "more"], ["--out", "x", "--colour"]):
            with self.subTest(args=args):
                self.assertTrue(self.xdc("synth", *args, status=64).stderr)
        self.assertFalse((self.dir / "x").exists())

    def test_unwritable(self):
        """Where no directory can be made the sentence names it, and labels.csv does not appear."""
        (self.dir / "file").write_text("in the way")
        r = self.xdc("synth", "--out", "file/set", "--videos", 1, status=70)
        self.assertIn("file/set", r.stderr)
        self.xdc("synth", "--out", "set", "--videos", 1)
        os.remove(self.dir / "set" / "videos" / "00000.mp4")
        os.mkdir(self.dir / "set" / "videos" / "00000.mp4")
        os.remove(self.dir / "set" / "labels.csv")
        self.xdc("synth", "--out", "set", "--videos", 1, "--force", status=70)
        self.assertFalse((self.dir / "set" / "labels.csv").exists())


main()
