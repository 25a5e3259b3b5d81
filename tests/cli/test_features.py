"""xdc features: the features of a round as one array, whether one trainer wrote them or several."""
import subprocess
import sys

import numpy as np

from common import CommandTest, main

MAKE_DUMP = sys.argv[3]


class Features(CommandTest):
    def shards(self, round_number, total, *rows, leave_out=()):
        """Seals shards of so many rows each, but those left out."""
        first = 0
        for rank, n in enumerate(rows):
            if rank not in leave_out:
                folder = self.dir / "run" / "features" / f"round-{round_number:04}"
                subprocess.run([MAKE_DUMP, folder, *map(str, (rank, len(rows), total, first, n))], check=True)
            first += n

    def check(self, round_number, total, shards):
        """Both modalities hold what was put, in the order of clip ids, and NaN where a clip has none."""
        clips = np.arange(total, dtype=np.float32)[:, None]
        for modality, want in ("video", clips + [[0, 0.25, 0.5]]), ("audio", -clips - [[0, 0.25]]):
            want = want.astype(np.float32)
            there = total
            if modality == "audio":
                want[3::4] = np.nan
                there -= total // 4
            r = self.xdc("features", "run", "--round", round_number, "--modality", modality, "--out", "f.npy")
            said = f"f.npy: {there} of {total} clips, {want.shape[1]} dimensions"
            self.assertEqual(r.stdout, said + (f", from {shards} shards\n" if shards > 1 else "\n"))
            got = np.load(self.dir / "f.npy")
            self.assertEqual(got.dtype, np.float32)
            np.testing.assert_array_equal(got, want)

    def test_one_and_several_shards(self):
        """The same clips from one, two and three shards, cut in a block and at its border, are the same array."""
        for i, rows in enumerate(((2500,), (1111, 1389), (1024, 1476), (700, 0, 1800))):
            self.shards(i, 2500, *rows)
            self.check(i, 2500, len(rows))
        self.check("last", 2500, 3)

    def test_incomplete(self):
        """A shard that is missing, or does not fit, is named, and no file is written."""
        self.shards(0, 40, 10, 20, 10, leave_out=(1,))
        args = ("features", "run", "--round", 0, "--modality", "video", "--out", "f.npy")
        r = self.xdc(*args, status=66)
        self.assertIn("run/features/round-0000/rank-1 is not sealed yet", r.stderr)
        self.shards(0, 40, 10, 19, 10, leave_out=(0, 2))
        r = self.xdc(*args, status=65)
        self.assertIn("rank-2 begins with row 30, the shards before it end with 29", r.stderr)
        self.assertFalse((self.dir / "f.npy").exists())

    def test_unknown(self):
        """A modality and a round that there are not."""
        self.shards(0, 10, 10)
        r = self.xdc("features", "run", "--round", 0, "--modality", "smell", "--out", "f.npy", status=64)
        self.assertIn("no features of smell", r.stderr)
        r = self.xdc("features", "run", "--round", 1, "--modality", "video", "--out", "f.npy", status=66)
        self.assertIn("round-0001/rank-0 is not sealed yet", r.stderr)

    def test_wrong_arguments(self):
        """Options of the commands about a run: what one takes is said, and letters are as good as names."""
        for args, word in ((("labels", "run", "--format", "xml", "--out", "l"), "--format xml: must be one of csv|npy; see xdc labels --help"),
                           (("labels", "run", "--colour"), "'--colour'"), (("labels", "run", "--out"), "requires an argument"),
                           (("labels", "run", "-x"), "see xdc labels --help"), (("status",), "needs RUN"),
                           (("export", "run", "--encoder", "video", "--head", "full", "--out", "f"), "--head full: must be one of none|fc"),
                           (("export", "--init", "r3d_18", "--width", 3, "--out", "f"), "--width 3: must be a whole number from 4 to 256"),
                           (("features", "run", "--round", 0, "--out", "f.npy"), "needs RUN")):
            self.assertIn(word, self.xdc(*args, status=64).stderr)
        self.shards(0, 10, 10)
        self.xdc("features", "-r0", "-m", "video", "run", "-of.npy")
        self.assertTrue((self.dir / "f.npy").exists())


main()
