"""xdc decode: the arrays it writes, what it says of files that lack something, and its exit status."""
import ast
import json
import struct

import numpy as np

from common import CommandTest, golden_clip, main, write_wav


def read_npy(path):
    """dtype, shape and bytes of a NumPy file, format 1.0."""
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    size = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10:10 + size].decode())
    assert not header["fortran_order"]
    return header["descr"], header["shape"], data[10 + size:]


class Decode(CommandTest):
    def setUp(self):
        super().setUp()
        (self.dir / "good.mp4").write_bytes(golden_clip())
        (self.dir / "broken.mp4").write_bytes(b"no film" * 20)
        write_wav(self.dir / "sound.wav")

    def test_both_streams(self):
        """Frames and log-mel have the shapes asked for, hold a picture and a sound, and are the same every time."""
        args = ("decode", "good.mp4", "--start", "0.3", "--frames", "4", "--size", "32", "--resize", "40", "--fps", "12")
        a = json.loads(self.xdc(*args, "--video-out", "v.npy", "--audio-out", "a.npy", "--json").stdout)
        self.assertEqual((a["reason"], a["wrote"], a["probe"]["width"]), ("ok", "video+audio", 64))
        dtype, shape, pixels = read_npy(self.dir / "v.npy")
        self.assertEqual((dtype, shape, len(pixels)), ("|u1", (4, 32, 32, 3), 4 * 32 * 32 * 3))
        self.assertGreater(max(pixels) - min(pixels), 100)
        dtype, shape, mel = read_npy(self.dir / "a.npy")
        self.assertEqual((dtype, shape, len(mel)), ("<f4", (40, 100), 16000))
        values = struct.unpack("<4000f", mel)
        self.assertGreater(max(values) - min(values), 3)
        b = json.loads(self.xdc(*args, "--video-out", "w.npy", "--audio-out", "b.npy", "--json").stdout)
        self.assertEqual(a["hash"], b["hash"])
        self.assertEqual((self.dir / "v.npy").read_bytes(), (self.dir / "w.npy").read_bytes())
        both = json.loads(self.xdc(*args, "--start", "1.2", "--video-out", "x.npy", "--audio-out", "c.npy", "--json").stdout)
        first, second = both["clips"]
        self.assertEqual((first["hash"], first["start_s"], second["start_s"]), (a["hash"], 0.3, 1.2))
        self.assertNotEqual(first["hash"], second["hash"])
        _, shape, two = read_npy(self.dir / "x.npy")
        self.assertEqual((shape, two[:len(pixels)]), ((2, 4, 32, 32, 3), pixels))

    def test_modes(self):
        """fast is exact to a level or two; loop, drop and keep-silent do what they say; unknown words are refused."""
        def pixels(*more):
            self.xdc("decode", "good.mp4", "--frames", "4", "--size", "32", "--fps", "12", "--video-out", "m.npy", *more)
            return read_npy(self.dir / "m.npy")[2]
        fast, exact = pixels(), pixels("--scaling", "exact")
        self.assertLessEqual(max(abs(x - y) for x, y in zip(fast, exact)), 3)
        r = self.xdc("decode", "good.mp4", "--frames", "300", "--fps", "30", "--size", "16", "--video-out", "m.npy", "--short", "loop", "--json")
        self.assertEqual(json.loads(r.stdout)["clips"][0]["flags"], ["looped"])
        self.xdc("decode", "good.mp4", "--frames", "300", "--fps", "30", "--size", "16", "--video-out", "m.npy", "--short", "drop", status=65)
        self.xdc("decode", "good.mp4", "--frontend", "mfcc", "--audio-out", "a.npy", status=64)

    def test_degrade(self):
        """Means of squares, then straight lines between their centres, as written here again; for sides that squares do not divide."""
        for factor, side in ((1, 32), (2, 32), (4, 32), (8, 30), (16, 40)):
            args = ("decode", "good.mp4", "--frames", "2", "--size", str(side), "--resize", "40", "--video-out")
            self.xdc(*args, "sharp.npy")
            self.xdc(*args, "coarse.npy", "--degrade", str(factor))
            sharp, coarse = np.load(self.dir / "sharp.npy").astype(float), np.load(self.dir / "coarse.npy")
            edges = np.arange(0, side, factor)
            counts = np.add.reduceat(np.ones(side), edges)
            sums = np.add.reduceat(np.add.reduceat(sharp, edges, 1), edges, 2)
            means = np.floor(sums / np.outer(counts, counts)[None, :, :, None] + 0.5)
            at = np.clip((np.arange(side) + 0.5) / factor - 0.5, 0, len(edges) - 1)
            low = np.minimum(at.astype(int), len(edges) - 1)
            high, share = np.minimum(low + 1, len(edges) - 1), at - low
            rows = means[:, low] * (1 - share)[None, :, None, None] + means[:, high] * share[None, :, None, None]
            want = rows[:, :, low] * (1 - share)[None, None, :, None] + rows[:, :, high] * share[None, None, :, None]
            self.assertLessEqual(np.abs(coarse - want).max(), 0.51, (factor, side))
            if factor == 1:
                self.assertTrue((coarse == sharp).all())
            else:
                self.assertLess(np.abs(np.diff(coarse.astype(float), axis=2)).mean(), np.abs(np.diff(sharp, axis=2)).mean())
        self.xdc("decode", "good.mp4", "--degrade", "17", "--video-out", "m.npy", status=64)

    def test_defaults(self):
        """Only the array that is asked for is written; 8 frames of 112 pixels unless said otherwise."""
        self.xdc("decode", "good.mp4", "--video-out", "v.npy")
        self.assertEqual(read_npy(self.dir / "v.npy")[1], (8, 112, 112, 3))
        self.assertFalse((self.dir / "a.npy").exists())

    def test_missing_stream(self):
        """A stream that the file lacks is a warning, and its array is not written."""
        r = self.xdc("decode", "sound.wav", "--video-out", "v.npy", "--audio-out", "a.npy")
        self.assertIn("has no video", r.stderr)
        self.assertFalse((self.dir / "v.npy").exists())
        self.assertEqual(read_npy(self.dir / "a.npy")[1], (40, 100))
        r = self.xdc("decode", "sound.wav", "--video-out", "v.npy", "--json")
        self.assertEqual(json.loads(r.stdout)["wrote"], "nothing")

    def test_failures(self):
        """Each failure has its status, its reason code, and leaves no array."""
        r = self.xdc("decode", "broken.mp4", "--video-out", "v.npy", "--audio-out", "a.npy", status=65)
        self.assertIn("unreadable", r.stderr)
        self.xdc("decode", "gone.mp4", "--video-out", "v.npy", status=66)
        self.xdc("decode", "good.mp4", status=64)
        self.xdc("decode", "--video-out", "v.npy", status=64)
        for option, value in (("--frames", "0"), ("--frames", "2.5"), ("--size", "99999"), ("--start", "-1"),
                              ("--start", "nan"), ("--fps", "x"), ("--resize", "16")):
            r = self.xdc("decode", "good.mp4", "--video-out", "v.npy", option, value, status=64)
            self.assertIn(option, r.stderr)
        r = self.xdc("decode", "good.mp4", "--video-out", "v.npy", *["--start", "0"] * 17, status=64)
        self.assertIn("--start 0: must be given 16 times at most", r.stderr)
        self.assertIn("--audio-out", self.xdc("decode", "--help").stdout)
        self.assertEqual([p.name for p in self.dir.glob("*.npy")], [])


main()
