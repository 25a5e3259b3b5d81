"""xdc index: what it finds, what it refuses, and that it leaves nothing half done."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest
from pathlib import Path
from unittest import mock

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
        """An existing manifest is kept, unless --force or --update is given."""
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
        again = self.index("clips", "--labels", self.write_labels("path,label\nclips/a.mp4,dog\n./clips/a.mp4,dog\n"), out="o.lmdb")
        self.assertEqual((again["labels"]["labelled"], again["repeated"]), (1, 1))
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

    def test_lying_worker(self):
        """A worker that a file has taken over fails that file; key frames that make no list are left out, the rest is as good."""
        shutil.rmtree(self.clips)
        self.clips.mkdir()
        for name in ("good", "n", "s", "k", "later", "z"):
            (self.clips / f"{name}.mkv").write_bytes(name.encode())
        with mock.patch.dict(os.environ, XDC_MEDIA_WORKER=str(Path(XDC).parent / "lying_worker")):
            s = self.index("clips", "--jobs", "1")
        self.assertEqual((s["videos"], s["with_video"], s["keyframes"]), (6, 4, 4))
        self.assertEqual(s["unreadable"], {"worker_died": 2})
        self.assertAlmostEqual(s["hours"] * 3600, 4 * 3.0)

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

    def many(self, n):
        for i in range(n):
            (self.clips / f"{i}.mp4").symlink_to("a.mp4")

    def start(self, *args):
        return subprocess.Popen([XDC, "index", "clips", "--out", "m.lmdb", *args], cwd=self.dir, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True)

    def wait_for_partial(self, p, size):
        partial = self.dir / "m.lmdb.partial"
        while not partial.exists() or partial.stat().st_size < size:
            self.assertIsNone(p.poll(), "it ended before it could be disturbed")
            time.sleep(0.001)
        return partial

    def test_interrupt_and_go_on(self):
        """An interrupted index exits 75 and leaves no manifest; the same command goes on and makes the same manifest."""
        self.many(3000)
        p = self.start("--jobs", "1")
        self.wait_for_partial(p, 4000)
        self.assertIn("another xdc index", self.index("clips", status=75))
        p.send_signal(signal.SIGINT)
        _, said = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 75, said)
        self.assertIn("the same command goes on", said)
        self.assertFalse((self.dir / "m.lmdb").exists())
        s = self.index("clips")
        self.assertEqual(s["videos"], 3006)
        self.assertLess(s["probed"], 3006 - 10)
        self.assertEqual(self.index("clips", out="n.lmdb")["identity"], s["identity"])
        self.assertEqual(list(self.dir.glob("*.partial")), [])

    def test_killed_again_and_again(self):
        """kill -9 at any moment: nothing is probed twice but the files in flight; a torn tail is cut off."""
        self.many(1200)
        size = 0
        for _ in range(4):
            p = self.start("--jobs", "2")
            partial = self.wait_for_partial(p, size + 6000)
            p.kill()
            p.communicate()
            size = partial.stat().st_size
        with open(partial, "r+b") as f:
            f.truncate(size - 7)
        s = self.index("clips")
        self.assertEqual(s["videos"], 1206)
        record = 200  # bytes, at most, without key frames
        self.assertLessEqual(s["probed"], 1206 - size // record + 1)
        self.assertEqual(self.index("clips", out="n.lmdb")["identity"], s["identity"])

    def test_files_that_change_meanwhile(self):
        """What an interrupted index knows of a file does not count when the file has changed since; nor does that of another folder."""
        self.many(1200)
        p = self.start("--jobs", "1")
        self.wait_for_partial(p, 8000)
        p.kill()
        p.communicate()
        (self.clips / "a.mp4").write_bytes(b"no film")  # and so are all links to it
        s = self.index("clips")
        self.assertEqual((s["with_video"], s["unreadable"]), (3, {"unreadable": 1202}))

    def test_update(self):
        """Known files keep their numbers and are not probed again; new ones come behind; the identity stays where nothing is new."""
        first = self.index("clips", "--labels", self.write_labels("path,label,split\nclips/b.mp4,dog,train\n"))
        again = self.index("clips", "--update")
        self.assertEqual((again["identity"], again["probed"]), (first["identity"], 0))
        self.assertEqual(again["update"], {"unchanged": 6, "changed": 0, "gone": 0, "added": 0})
        self.assertEqual((again["labels"]["classes"], again["splits"]["train"]), (1, 1))
        (self.clips / "b/deep/z.mp4").unlink()
        gone = self.index("clips", "--update")
        self.assertEqual((gone["identity"], gone["probed"], gone["videos"]), (first["identity"], 0, 6))
        self.assertEqual((gone["update"]["gone"], gone["unreadable"]), (1, {"unreadable": 1, "open_failed": 1}))
        (self.clips / "b/deep/z.mp4").write_bytes(golden_clip())
        back = self.index("clips", "--update")
        self.assertEqual((back["identity"], back["probed"], back["unreadable"]), (first["identity"], 1, {"unreadable": 1}))
        (self.clips / "0 first.mp4").write_bytes(golden_clip())
        write_wav(self.clips / "sound.wav", seconds=3)
        more = self.index("clips", "--update")
        self.assertEqual((more["probed"], more["update"]), (2, {"unchanged": 5, "changed": 1, "gone": 0, "added": 1}))
        self.assertNotEqual(more["identity"], first["identity"])
        self.xdc("doctor", "m.lmdb", "--exit-zero")
        uris = [json.loads(line) for line in (self.dir / "m.lmdb.doctor.jsonl").read_text().splitlines()]
        self.assertEqual([e["uri"] for e in sorted(uris, key=lambda e: e["index"])],
                         ["a.mp4", "b.mp4", "b/deep/z.mp4", "b/one, two.MP4", "broken.mp4", "sound.wav", "0 first.mp4"])
        (self.clips / "later.mp4").write_bytes(golden_clip())
        self.assertIn("run xdc doctor m.lmdb again", self.xdc("index", "clips", "--out", "m.lmdb", "--update").stderr)

    def test_update_refusals(self):
        """An update from another folder is refused; without a manifest it is a first index."""
        self.index("clips")
        self.assertIn("give the same PATH", self.index("clips/b", "--update", status=64))
        self.assertIn("contradict", self.index("clips", "--update", "--force", status=64))
        self.assertEqual(self.index("clips", "--update", out="n.lmdb")["update"]["added"], 6)

    @unittest.skipIf(shutil.which("ffmpeg") is None, "no program ffmpeg")
    def test_key_frames_and_stills(self):
        """A transport stream's key frames are listed, an MP4's are its own; a picture is media that lasts 0 s."""
        few = self.dir / "few"
        few.mkdir()
        for name in ("a.ts", "b.mp4", "c.png"):
            subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=2", "-g", "10", "-bf", "0",
                            *(["-frames:v", "1", "-update", "1"] if name == "c.png" else []), few / name], check=True)
        s = self.index("few")
        self.assertEqual((s["videos"], s["with_video"], s["unreadable"], s["keyframes"]), (3, 3, {}, 5))
        self.assertEqual((s["facts"]["still_image"], s["facts"]["no_seek_index"]), (1, 1))
        self.assertAlmostEqual(s["hours"] * 3600, 4, delta=0.1)
        self.assertEqual(self.index("few", "--update")["keyframes"], 5)

    def test_size(self):
        """At most 150 bytes a video beyond its path."""
        self.many(800)
        self.index("clips")
        paths = sum(len(str(p.relative_to(self.clips))) for p in self.clips.rglob("*.[mMw][pPa][4v4]*"))
        self.assertLessEqual(((self.dir / "m.lmdb").stat().st_size - paths) / 806, 150)

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
