"""xdc index: what it finds, what it refuses, and that it leaves nothing half done."""
import json
import shutil
import signal
import subprocess
import time
import unittest

from common import SOURCES, XDC, CommandTest, golden_clip, main, write_wav


class Index(CommandTest):
    def setUp(self):
        super().setUp()
        self.clips = self.dir / "clips"
        (self.clips / "b" / "deep").mkdir(parents=True)
        good = golden_clip()
        for name in ("a.mp4", "b/one, two.MP4", "b/deep/z.mp4", "b.mp4"):
            (self.clips / name).write_bytes(good)
        (self.clips / "broken.mp4").write_bytes(b"no film" * 20)
        (self.clips / "notes.txt").write_text("not media")
        write_wav(self.clips / "sound.wav")

    def index(self, *args, status=0, out="m.lmdb"):
        r = self.xdc("index", *args, "--out", out, "--json", status=status)
        return json.loads(r.stdout) if status == 0 else r.stderr

    def assert_nothing_written(self):
        self.assertEqual([p.name for p in self.dir.iterdir() if p.name not in ("clips", "labels.csv")], [])

    def write_labels(self, text):
        (self.dir / "labels.csv").write_bytes(text.encode())
        return "labels.csv"

    def test_folder(self):
        """Media below the folder is counted, the broken file by its reason; other files are passed over."""
        s = self.index("clips")
        self.assertEqual((s["videos"], s["with_video"], s["with_audio"]), (6, 4, 5))
        self.assertEqual(s["unreadable"], {"unreadable": 1})
        self.assertAlmostEqual(s["hours"] * 3600, 10.0, delta=0.5)
        self.assertEqual(s["bytes"], sum(p.stat().st_size for p in self.clips.rglob("*.[mMw][pPa][4v4]*")))
        self.assertEqual(s["media_root"], str(self.clips.resolve()))

    def test_identity_is_that_of_the_files(self):
        """However many workers, and however the path is written, the manifest is the same; another file makes another."""
        one = self.index("clips", "--jobs", 1)["identity"]
        self.assertEqual(self.index("./clips/b/..", "--jobs", 5, out="n.lmdb")["identity"], one)
        (self.clips / "a.mp4").unlink()
        self.assertNotEqual(self.index("clips", out="o.lmdb")["identity"], one)

    def test_table(self):
        """Without --json the summary is a table that a person reads."""
        r = self.xdc("index", "clips", "--out", "m.lmdb")
        self.assertRegex(r.stdout, r"videos +6\n")
        self.assertRegex(r.stdout, r"unreadable +1 unreadable")
        self.assertRegex(r.stdout, r"identity +[0-9a-f]{16}\n")

    def test_existing_manifest(self):
        """An existing manifest is kept, unless --force is given."""
        self.index("clips")
        before = (self.dir / "m.lmdb").read_bytes()
        self.assertIn("--force", self.index("clips", status=73))
        self.assertEqual((self.dir / "m.lmdb").read_bytes(), before)
        (self.clips / "a.mp4").unlink()
        self.assertEqual(self.index("clips", "--force")["videos"], 5)

    def test_list_and_single_file(self):
        """A list names files relative to its folder; a line that comes again counts once. One file is an index too."""
        (self.dir / "files.txt").write_text("clips/b.mp4\r\n\nclips/../clips/a.mp4\nclips/b.mp4\nclips/gone.mp4\n")
        s = self.index("files.txt")
        self.assertEqual((s["videos"], s["with_video"], s["repeated"]), (3, 2, 1))
        self.assertEqual(s["unreadable"], {"open_failed": 1})
        s = self.index("clips/a.mp4", out="n.lmdb")
        self.assertEqual((s["videos"], s["media_root"]), (1, str(self.clips.resolve())))

    def test_labels(self):
        """Quotes, CRLF, paths with commas, empty labels and splits; what does not match is counted."""
        labels = self.write_labels('path,label,split\r\n"clips/b/one, two.MP4","say ""cat""",train\r\n'
                                   "./clips/a.mp4,dog,test\r\n\r\nclips/b.mp4,,train\r\nclips/sound.wav,dog,\r\n"
                                   "clips/gone.mp4,dog,val\r\n")
        s = self.index("clips", "--labels", labels)
        self.assertEqual(s["labels"], {"classes": 2, "labelled": 3, "unmatched_rows": 1, "unmatched_files": 2})
        self.assertEqual(s["splits"], {"none": 3, "train": 2, "val": 0, "test": 1})
        self.assertEqual(s["videos"], 6)
        self.assertEqual(s["identity"], self.index("clips", out="n.lmdb")["identity"])  # truth lies outside it

    def test_faulty_labels(self):
        """A fault in the labels is named by its line and leaves no manifest."""
        faults = (
            ("path,label,split\nclips/a.mp4,x,train\nclips/b.mp4,x,trian\n", "labels.csv:3", "trian"),
            ("file,label\nclips/a.mp4,x\n", "labels.csv:1", "path,label"),
            ("path,label\nclips/a.mp4,x\n./clips/a.mp4,y\n", "labels.csv:3", "second row"),
            ('path,label\n"clips/a.mp4,x\n', "labels.csv:2", "quote"),
            ("path,label\nclips/a.mp4,x,train\n", "labels.csv:2", "3 fields"),
            ("path,label\nclips/a, b.mp4,x,train\n", "labels.csv:2", "fields"),
            ("path,label\n,x\n", "labels.csv:2", "no path"),
            ('path,label\n"clips/\na.mp4",x\nclips/b.mp4\n', "labels.csv:4", "1 fields"),
            ("", "labels.csv:1", "path,label"),
        )
        for text, line, word in faults:
            with self.subTest(text=text):
                said = self.index("clips", "--labels", self.write_labels(text), status=65)
                self.assertIn(line, said)
                self.assertIn(word, said)
                self.assert_nothing_written()

    def test_refusals(self):
        """Wrong arguments, a path that is not there, a folder without media: each with its status, nothing written."""
        (self.dir / "clips" / "empty").mkdir()
        self.xdc("index", "clips", status=64)
        self.xdc("index", "--out", "m.lmdb", status=64)
        self.xdc("index", "clips", "--out", "m.lmdb", "--jobs", "0", status=64)
        self.xdc("index", "clips", "--out", "m.lmdb", "--nonsense", status=64)
        self.index("gone", status=66)
        self.assertIn("no media files", self.index("clips/empty", status=66))
        self.assertIn("--labels", self.xdc("index", "--help").stdout)
        self.assert_nothing_written()

    def test_interrupt_leaves_nothing(self):
        """An interrupted index exits 75 and leaves no file."""
        for i in range(2000):
            (self.clips / f"{i}.mp4").symlink_to("a.mp4")
        p = subprocess.Popen([XDC, "index", "clips", "--out", "m.lmdb", "--jobs", "1"], cwd=self.dir,
                             stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        _, said = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 75, said)
        self.assertIn("nothing was written", said)
        self.assert_nothing_written()

    def test_real_clips(self):
        """The labelled clips beside the project, where they are."""
        data = SOURCES / "../shared/data/avmnist"
        if not (data / "labels.csv").exists():
            self.skipTest("no data beside the project")
        few = self.dir / "few"
        few.mkdir()
        rows = (data / "labels.csv").read_text().splitlines()
        for row in rows[1:41]:
            name = row.split(",")[0]
            (few / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / name, few / name)
        (few / "labels.csv").write_text("\n".join(rows[:41]) + "\n")
        s = self.index("few", "--labels", "few/labels.csv")
        self.assertEqual((s["videos"], s["with_video"], s["with_audio"], s["unreadable"]), (40, 40, 40, {}))
        self.assertEqual(s["labels"]["labelled"], 40)
        self.assertEqual((s["labels"]["unmatched_rows"], s["labels"]["unmatched_files"]), (0, 0))
        self.assertEqual(s["splits"]["train"] + s["splits"]["test"], 40)


main()
