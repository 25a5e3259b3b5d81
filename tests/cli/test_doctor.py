"""xdc doctor and xdc explain: right about every file of the zoo, and no file examined twice.

Usage: test_doctor.py PATH_OF_XDC PATH_OF_SOURCES PATH_OF_DYING_WORKER"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from common import SOURCES, XDC, CommandTest, golden_clip, main

sys.path.insert(0, str(SOURCES / "tests/lib"))
import make_zoo  # noqa: E402

DYING_WORKER = sys.argv[3]
FAULTS = range(1, 24)
FACTS = range(64, 82)


def read_report(path):
    """{uri: entry}; fails on a file that is in it twice."""
    found = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        assert entry["uri"] not in found, "twice: " + entry["uri"]
        found[entry["uri"]] = entry
    return found


def read_quarantine(path):
    data = path.read_bytes()
    magic, version, zero, manifest, count = struct.unpack("<8sIIQQ", data[:32])
    assert (magic, version, zero, len(data)) == (b"XDCQUAR\n", 1, 0, 32 + 16 * count + 8)
    return f"{manifest:016x}", [struct.unpack_from("<QII", data, 32 + 16 * i)[:2] for i in range(count)]


class Doctor(CommandTest):
    def index(self, folder, out="m.lmdb", *more):
        return json.loads(self.xdc("index", folder, "--out", out, "--json", *more).stdout)

    def doctor(self, *more, status=0, env=None):
        r = subprocess.run([XDC, "doctor", "m.lmdb", "--json", *map(str, more)], capture_output=True, text=True, cwd=self.dir, timeout=120,
                           env=dict(os.environ, **(env or {})))
        self.assertEqual(r.returncode, status, r.stdout + r.stderr)
        return json.loads(r.stdout) if status in (0, 65) else r.stderr

    def golden(self, n, folder="clips"):
        (self.dir / folder).mkdir(exist_ok=True)
        for i in range(n):
            (self.dir / folder / f"{i:04}.mp4").write_bytes(golden_clip())


class Healthy(Doctor):
    def test_all_good(self):
        """Good files: status 0, no fault, an empty quarantine of this manifest."""
        self.golden(3)
        identity = self.index("clips")["identity"]
        s = self.doctor()
        self.assertEqual((s["videos"], s["examined"], s["kept"], s["faulty"], s["faults"]), (3, 3, 0, 0, {}))
        self.assertEqual(read_quarantine(self.dir / "m.lmdb.quarantine"), (identity, []))
        entry = read_report(self.dir / "m.lmdb.doctor.jsonl")["0001.mp4"]
        self.assertEqual((entry["index"], entry["fault"], entry["detail"]), (1, None, ""))
        self.assertEqual(entry["size_bytes"], len(golden_clip()))
        self.assertGreater(entry["counts"]["video_frames"], 10)
        self.assertGreater(entry["counts"]["audio_samples"], 10000)

    def test_files_that_change(self):
        """A file that is gone, one of another size, and one written anew: only those are looked at again."""
        self.golden(5)
        self.index("clips")
        (self.dir / "clips/0001.mp4").unlink()
        with open(self.dir / "clips/0002.mp4", "ab") as f:
            f.write(b"more")
        self.assertEqual(self.doctor(status=65)["faults"], {"open_failed": 1, "changed_since_index": 1})
        self.assertEqual(read_quarantine(self.dir / "m.lmdb.quarantine")[1], [(1, 1), (2, 2)])
        (self.dir / "clips/0001.mp4").write_bytes(golden_clip())
        os.utime(self.dir / "clips/0003.mp4", ns=(1, 1))
        s = self.doctor(status=65)
        self.assertEqual((s["examined"], s["kept"], s["faults"]), (2, 3, {"changed_since_index": 1}))
        self.assertEqual(self.doctor("--exit-zero")["examined"], 0)
        self.assertEqual(self.doctor("--fresh", status=65)["examined"], 5)
        self.assertEqual(len(read_report(self.dir / "m.lmdb.doctor.jsonl")), 5)

    def test_torn_report(self):
        """A report whose last line is torn, and lines of other files or needs: what holds is kept, the rest done again."""
        self.golden(6)
        self.index("clips")
        self.doctor()
        report = self.dir / "m.lmdb.doctor.jsonl"
        lines = report.read_text().splitlines(keepends=True)
        other = json.loads(lines[4])
        other["uri"] = "another.mp4"
        report.write_text("".join(lines[:4]) + json.dumps(other) + "\n" + "no json\n" + lines[5][:40])
        s = self.doctor()
        self.assertEqual((s["kept"], s["examined"]), (4, 2))
        self.assertEqual(self.doctor("--needs", "video")["examined"], 6)
        self.assertEqual(len(read_report(report)), 6)

    def test_killed(self):
        """kill -9 in the middle, again and again: no finished file is examined again, and all are in the end."""
        n = 150
        self.golden(n)
        self.index("clips")
        report = self.dir / "m.lmdb.doctor.jsonl"
        finished, examined = 0, 0
        for _ in range(4):
            p = subprocess.Popen([XDC, "doctor", "m.lmdb", "--jobs", "2"], cwd=self.dir, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            end = time.monotonic() + 30
            while time.monotonic() < end and p.poll() is None:
                if report.exists() and report.read_text().count("\n") >= finished + n // 8:
                    break
                time.sleep(0.01)
            p.kill()
            p.wait()
            now = report.read_text().count("\n")
            self.assertGreater(now, finished)
            finished = now
        self.assertLess(finished, n, "the test was too slow to interrupt anything")
        s = self.doctor()
        self.assertEqual((s["kept"], s["examined"]), (finished, n - finished))
        self.assertEqual(len(read_report(report)), n)

    def test_interrupt(self):
        """SIGINT ends it with 75 and a sentence; two doctors do not write one report."""
        self.golden(150)
        self.index("clips")
        p = subprocess.Popen([XDC, "doctor", "m.lmdb", "--jobs", "1"], cwd=self.dir, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        report = self.dir / "m.lmdb.doctor.jsonl"
        while not report.exists() or not report.read_text():
            time.sleep(0.01)
        self.assertIn("another xdc doctor", self.doctor(status=75))
        p.send_signal(signal.SIGINT)
        _, said = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 75, said)
        self.assertIn("the same command goes on", said)
        self.assertFalse((self.dir / "m.lmdb.quarantine").exists())

    def test_deaths(self):
        """What becomes of a file whose worker dies, by the signal."""
        self.golden(1)
        self.index("clips")
        for number, code in ((9, "memory_limit"), (24, "decode_timeout"), (31, "sandbox_violation"), (11, "worker_died")):
            worker = self.dir / f"worker-{number}"
            shutil.copy(DYING_WORKER, worker)
            s = self.doctor("--fresh", status=65, env={"XDC_MEDIA_WORKER": str(worker)})
            self.assertEqual(s["faults"], {code: 1})
        self.assertIn("xdc-media-worker", self.doctor("--fresh", status=66, env={"XDC_MEDIA_WORKER": str(self.dir / "none")}))

    def test_cpu_limit(self):
        """A real decoder that needs more CPU time than --cpu-s is ended."""
        (self.dir / "clips").mkdir()
        make_zoo.ffmpeg(*"-f lavfi -i testsrc2=size=1280x720:rate=50:duration=1 -c:v ffv1 -coder 1 -context 1 -g 1".split(), self.dir / "one.mkv")
        (self.dir / "list.txt").write_text("".join(f"file one.mkv\n" for _ in range(12)))
        make_zoo.ffmpeg(*"-f concat -i".split(), self.dir / "list.txt", "-c", "copy", self.dir / "clips/slow.mkv")
        self.index("clips")
        self.assertEqual(self.doctor("--needs", "video", "--cpu-s", 1, status=65)["faults"], {"decode_timeout": 1})

    def test_refusals(self):
        """Wrong arguments and missing manifests."""
        for args, word in ((["--needs", "smell"], "--needs"), (["--jobs", "0"], "--jobs"), (["--cpu-s", "x"], "--cpu-s"), (["more"], "MANIFEST")):
            self.assertIn(word, self.doctor(*args, status=64))
        self.assertIn("no manifest", self.doctor(status=66))
        self.assertIn("examples:", self.xdc("doctor", "--help").stdout)


class TheZoo(Doctor):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory(prefix="xdc-test-zoo-")
        cls.addClassCleanup(cls.place.cleanup)
        cls.zoo = Path(cls.place.name)
        cls.animals = make_zoo.make(cls.zoo)

    def test_every_file(self):
        """Each file's fault and facts are those of its recipe; every code is told; the quarantine has them by number."""
        summary = self.index(self.zoo)
        self.assertEqual(summary["videos"], len(self.animals))
        self.assertGreaterEqual(len(self.animals), 60)
        s = self.doctor(status=65)
        found = read_report(self.dir / "m.lmdb.doctor.jsonl")
        wrong = [f"{name}: {found[name]}, expected {a}" for name, a in self.animals.items()
                 if (found[name]["fault"], sorted(found[name]["facts"])) != (a["fault"], a["facts"])]
        self.assertEqual(wrong, [])
        self.assertEqual(s["faulty"], sum(a["fault"] is not None for a in self.animals.values()))
        identity, entries = read_quarantine(self.dir / "m.lmdb.quarantine")
        self.assertEqual(identity, summary["identity"])
        self.assertEqual(len(entries), s["faulty"])
        names = {int(line.split()[0]): line.split()[1] for line in self.xdc("explain").stdout.splitlines() if line[:3] == "   " or line[2:5].strip().isdigit()}
        self.assertEqual({found[uri]["index"]: found[uri]["fault"] for uri in found if found[uri]["fault"]}, {i: names[code] for i, code in entries})
        told = {a["fault"] for a in self.animals.values()} | {f for a in self.animals.values() for f in a["facts"]}
        elsewhere = {"open_failed", "changed_since_index", "decode_timeout", "memory_limit", "worker_died", "sandbox_violation"}
        self.assertEqual(set(names.values()) - told - elsewhere, set())

    def test_needs(self):
        """Only what is needed counts: without sound needed nothing that is wrong with it is a fault, nor the other way round."""
        self.index(self.zoo)
        sound = {"no_audio", "audio_silent", "audio_nonfinite", "too_short"}
        self.doctor("--needs", "video", status=65)
        for name, entry in read_report(self.dir / "m.lmdb.doctor.jsonl").items():
            fault = self.animals[name]["fault"]
            expected = None if fault in sound or name == "unknown_sound.avi" else fault
            self.assertEqual(entry["fault"], expected, name)
        self.doctor("--needs", "audio", status=65)
        found = read_report(self.dir / "m.lmdb.doctor.jsonl")
        for name, fault in (("speech.wav", None), ("song.mp3", None), ("silent_film.mp4", "no_audio"), ("huge.avi", None), ("muted.mp4", "audio_silent"),
                            ("photo.png", "no_audio"), ("cut.mp4", "truncated"), ("locked_sound.mp4", "encrypted")):
            self.assertEqual(found[name]["fault"], fault, name)


class Explain(CommandTest):
    def test_page(self):
        """docs/codes.md is what the command prints."""
        self.assertEqual(self.xdc("explain", "--markdown").stdout, (SOURCES / "docs/codes.md").read_text(),
                         "make it again: xdc explain --markdown > docs/codes.md")

    def test_every_code(self):
        """Each code by number and by name, with causes and advice; the list has them all."""
        everything = self.xdc("explain").stdout
        for number in (*FAULTS, *FACTS):
            said = self.xdc("explain", number).stdout
            name = said.split()[0]
            self.assertIn(f"{name} ({number}, a {'fact' if number >= 64 else 'fault'})", said)
            self.assertEqual(self.xdc("explain", name).stdout, said)
            self.assertRegex(said, r"causes +\S.*(\n +.*)*\n +to do +\S")
            self.assertRegex(everything, rf"\b{number} {name} ")

    def test_every_warning(self):
        """A run's warnings by name; the list and the page have them too."""
        everything, page = self.xdc("explain").stdout, self.xdc("explain", "--markdown").stdout
        for name in ("loss_at_chance", "collapsed_clusters", "dead_features", "unstable"):
            said = self.xdc("explain", name).stdout
            self.assertRegex(said, rf"\A{name} \(a warning\)\n  \S.*(\n .*)*\n  causes +\S.*(\n +.*)*\n  to do +\S")
            self.assertRegex(everything, rf"\n  {name} +\S")
            self.assertIn(f"### {name}\n", page.split("## Warnings")[1])

    def test_unknown(self):
        """A code that there is not."""
        for word in ("bogus", "0", "24", "63", "82", "ok", "-1"):
            self.assertIn("see xdc explain --help", self.xdc("explain", "--", word, status=64).stderr)


if shutil.which("ffmpeg") is None:
    print("no program ffmpeg")
    sys.exit(77)
main()
