"""xdc index of tar archives (WebDataset): members as videos, their classes, archives that are broken; and that what is read out of an
archive is what a file on disk gives, and no byte more."""
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import unittest

from common import XDC, CommandTest, golden_clip, main, write_wav

SHOW = sys.argv[3]
CLIP = golden_clip()
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def member(name, data=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def names_in(uris):
    """What an archive's uri says behind the place."""
    return [uri.split(".tar#", 1)[1].split("/", 1)[1] for uri in uris]


class Shards(CommandTest):
    def tar(self, name, *members, form="ustar"):
        """members: (name, bytes) or a TarInfo with its bytes."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=FORMATS[form]) as t:
            for m, data in members:
                info, data = member(m, data) if isinstance(m, str) else (m, data)
                t.addfile(info, io.BytesIO(data))
        return path

    def index(self, *args, status=0):
        r = self.xdc("index", *args, "--out", "m.lmdb", "--json", "--jobs", 2,
                     *(["--force"] if (self.dir / "m.lmdb").exists() and "--update" not in args else []), status=status)
        self.said = r.stderr
        return json.loads(r.stdout) if status == 0 else r.stderr

    def videos(self):
        """uri -> (class, split)"""
        r = subprocess.run([SHOW, "m.lmdb"], cwd=self.dir, capture_output=True, text=True, check=True)
        return {uri: (label, split) for uri, label, split in (line.split("\t") for line in r.stdout.splitlines())}

    def by_name(self):
        return {names_in([uri])[0]: of for uri, of in self.videos().items()}

    def decode(self, file, status=0, start=0.3):
        """Hash of the clip, or what is said."""
        r = self.xdc("decode", file, "--start", start, "--frames", 4, "--size", 32, "--fps", 10, "--video-out", "v.npy", "--audio-out", "a.npy", "--json",
                     status=status)
        return json.loads(r.stdout)["hash"] if status == 0 else r.stderr

    def doctor(self, status=0):
        r = self.xdc("doctor", "m.lmdb", "--json", "--fresh", status=status)
        return json.loads(r.stdout)


class Reading(Shards):
    def test_formats(self):
        """ustar, GNU and pax; names beyond 100 bytes, and that are not ASCII: the same videos, and the clips of the file on disk."""
        names = ["a.mp4", f"{'d' * 90}/{'n' * 60}.mp4", "./caf\u00e9/\u732b 1.mp4"]
        deep = "/".join(["e" * 60] * 5) + "/x.mp4"
        (self.dir / "on-disk.mp4").write_bytes(CLIP)
        want = self.decode("on-disk.mp4")
        for form in FORMATS:
            with self.subTest(form=form):
                all_names = names + ([deep] if form != "ustar" else [])
                self.tar(f"{form}.tar", *((n, CLIP) for n in all_names), form=form)
                s = self.index(f"{form}.tar")
                self.assertEqual((s["videos"], s["with_video"], s["unreadable"], s["bytes"]), (len(all_names), len(all_names), {}, len(CLIP) * len(all_names)))
                self.assertEqual((s["form"], s["archives"]["members"], s["archives"]["broken"]["count"]), (None, len(all_names), 0))
                uris = list(self.videos())
                self.assertEqual(names_in(uris), [n.removeprefix("./") for n in all_names])
                self.assertEqual({self.decode(uri) for uri in uris}, {want})
                self.assertEqual(self.doctor()["faulty"], 0)

    def test_many_and_mixed(self):
        """Several archives as PATH, and a folder of archives and files; what lies elsewhere has an absolute uri."""
        one, two = self.tar("s/b-0.tar", ("k.mp4", CLIP)), self.tar("t/b-1.tar", ("k.mp4", CLIP))
        self.assertEqual(self.index(one, two)["videos"], 2)
        self.assertEqual(sorted(self.videos()), sorted(["b-0.tar#000000000000/k.mp4", f"{two.resolve()}#000000000000/k.mp4"]))
        (self.dir / "s/sub").mkdir()
        (self.dir / "s/sub/plain.mp4").write_bytes(CLIP)
        self.assertEqual(self.index("s")["videos"], 2)
        self.assertEqual(list(self.videos()), ["b-0.tar#000000000000/k.mp4", "sub/plain.mp4"])
        self.assertIn("tar archives", self.index(one, "s", status=64))
        (self.dir / "list.txt").write_text("s/b-0.tar\n")
        self.assertIn("list.txt:1", self.index("list.txt", "--form", "paths", status=64))
        self.assertIn("does not", self.index("s", "--classes", "folders", status=65))

    def test_file_of_that_name(self):
        """A file of just a member's uri comes before the member."""
        write_wav(self.dir / "w.wav", 1.5)
        self.tar("x.tar", ("k.mp4", CLIP))
        self.index("x.tar")
        uri = "x.tar#000000000000/k.mp4"
        member_hash = self.decode(uri)
        (self.dir / "x.tar#000000000000").mkdir()
        (self.dir / uri).write_bytes((self.dir / "w.wav").read_bytes())
        self.assertIn("has no video", self.xdc("decode", uri, "--video-out", "v.npy", "--audio-out", "a.npy", "--json", status=0).stderr)
        self.assertEqual(self.doctor(status=65)["faults"], {"changed_since_index": 1})
        (self.dir / uri).unlink()
        self.assertEqual(self.decode(uri), member_hash)
        self.assertEqual(self.doctor()["faulty"], 0)

    def test_passed_over(self):
        """Links, devices and sparse files of both kinds are counted and passed over; what follows them is found."""
        with open(self.dir / "holes.mp4", "wb") as f:
            f.write(CLIP)
            f.truncate(4 << 20)
            f.seek(3 << 20)
            f.write(b"end")
        for form in ("gnu", "posix"):
            subprocess.run(["tar", "--sparse", f"--format={form}", "-cf", f"{form}.tar", "holes.mp4"], cwd=self.dir, check=True)
            self.assertLess((self.dir / f"{form}.tar").stat().st_size, 1 << 20)
            with tarfile.open(self.dir / f"{form}.tar", "a") as t:
                t.addfile(member("dir/", kind=tarfile.DIRTYPE)[0])
                for name, kind in (("h.mp4", tarfile.LNKTYPE), ("s.mp4", tarfile.SYMTYPE), ("f.mp4", tarfile.FIFOTYPE), ("c.mp4", tarfile.CHRTYPE)):
                    t.addfile(member(name, kind=kind, link="holes.mp4")[0])
                t.addfile(member("last.mp4", CLIP)[0], io.BytesIO(CLIP))
        s = self.index("gnu.tar", "posix.tar")
        self.assertEqual((s["archives"]["passed_over"], s["archives"]["media"], s["unreadable"]), (10, 2, {}))
        self.assertEqual(names_in(self.videos()), ["last.mp4", "last.mp4"])

    def test_beyond_8_gib(self):
        """Members behind one of 9 GiB, whose size is in base 256 or pax; the archive is a sparse file."""
        for form in ("gnu", "pax"):
            with self.subTest(form=form):
                info = tarfile.TarInfo("huge.bin")
                info.size = 9 << 30
                head = info.tobuf(FORMATS[form])
                tail = self.tar("tail.tar", ("far.mp4", CLIP), form=form).read_bytes()
                with open(self.dir / "big.tar", "wb") as f:
                    f.write(head)
                    f.seek(info.size, os.SEEK_CUR)
                    f.write(tail)
                s = self.index("big.tar")
                self.assertEqual((s["videos"], s["with_video"], s["archives"]["others"], s["archives"]["broken"]["count"]), (1, 1, 1, 0))
                self.assertEqual(list(self.videos()), [f"big.tar#{len(head) + (9 << 30):012d}/far.mp4"])
                (self.dir / "f.mp4").write_bytes(CLIP)
                self.assertEqual(self.decode(*self.videos()), self.decode("f.mp4"))
                (self.dir / "big.tar").unlink()

    def test_broken(self):
        """Archives that are cut, altered, empty, no archives, compressed: the members before stay, and each is named."""
        good = self.tar("s/good.tar", *((f"{i}.mp4", CLIP) for i in range(4))).read_bytes()
        step = 512 + (len(CLIP) + 511) // 512 * 512
        (self.dir / "s/cut.tar").write_bytes(good[:2 * step + 700])
        (self.dir / "s/altered.tar").write_bytes(good[:3 * step + 20] + b"x" + good[3 * step + 21:])
        (self.dir / "s/endless.tar").write_bytes(good[:4 * step])
        (self.dir / "s/empty.tar").write_bytes(bytes(10240))
        (self.dir / "s/nothing.tar").write_bytes(b"")
        (self.dir / "s/text.tar").write_bytes(b"this is no archive " * 100)
        (self.dir / "s/zipped.tar").write_bytes(b"\x1f\x8b\x08\x00" + bytes(600))
        (self.dir / "s/really.tar.gz").write_bytes(b"\x1f\x8b\x08\x00" + bytes(600))
        (self.dir / "s/gone.tar").symlink_to("nowhere.tar")
        s = self.index("s")
        self.assertEqual((s["videos"], s["archives"]["archives"], s["archives"]["broken"]["count"]), (4 + 2 + 3 + 4, 9, 5))
        said = "\n".join(s["archives"]["broken"]["first"])
        for word in (f"cut.tar: broken at byte {2 * step}: the archive ends within a member; the 2 members before it are read",
                     f"altered.tar: broken at byte {3 * step}: no header", "checksum is wrong; the 3 members", "text.tar: broken at byte 0: no header",
                     "zipped.tar: broken at byte 0: compressed with gzip", "no member could be read", "open gone.tar"):
            self.assertIn(word, said)
            self.assertIn(word, self.said)
        self.assertIn("1 compressed tar archives", self.said)
        self.assertEqual(s["unreadable"], {})
        for name in ("empty", "nothing", "text"):
            self.assertIn("no media files in the archives", self.index(f"s/{name}.tar", status=66))
        self.assertIn("gunzip", self.index("s/really.tar.gz", status=65))
        shutil.rmtree(self.dir / "s")
        self.tar("s/x.tar.gz", ("a.mp4", CLIP))
        self.assertIn("gunzip", self.index("s", status=66))


class Labels(Shards):
    def test_classes(self):
        """.cls and .json; which one counts; what says nothing that can be used is counted; .txt is not read."""
        self.tar("shard-0.tar",
                 ("a/0.mp4", CLIP), ("a/0.cls", b"7"),
                 ("a/1.left.mp4", CLIP), ("a/1.right.mp4", CLIP), ("a/1.cls", "\ufeffcaf\u00e9 au lait\r\n".encode()), ("a/1.json", b'{"label": "other", "split": "val"}'),
                 ("b/0.json", b'\xef\xbb\xbf{"caption": "x", "class": 3,\r\n "split": "train"}\r\n'), ("b/0.mp4", CLIP),
                 ("b/2.mp4", CLIP), ("b/2.json", b'{"category": "dog", "label": null}'), ("b/2.txt", b"not read"),
                 ("b/3.mp4", CLIP), ("b/3.cls", b"two\nlines"), ("b/4.mp4", CLIP), ("b/4.json", b'{"label": ["a"]}'), ("b/5.mp4", CLIP), ("b/5.json", b"{"),
                 ("b/6.mp4", CLIP), ("b/6.cls", b""), ("b/7.mp4", CLIP), ("b/7.json", b'{"split": "dev"}'), ("b/8.mp4", CLIP), ("b/8.cls", b"x" * 5000),
                 ("b/9.mp4", CLIP), ("b/9.json", b'{"duration": 2.5}'), ("b/10.cls", b"unheard"))
        s = self.index("shard-0.tar")
        self.assertEqual((s["form"], s["archives"]["others"], s["archives"]["labels_unread"]["count"]), ("webdataset", 1, 6))
        self.assertTrue(all(".tar#" in uri for uri in s["archives"]["labels_unread"]["first"]))
        self.assertEqual(self.by_name(), {"a/0.mp4": ("7", "none"), "a/1.left.mp4": ("caf\u00e9 au lait", "val"), "a/1.right.mp4": ("caf\u00e9 au lait", "val"),
                                          "b/0.mp4": ("3", "train"), "b/2.mp4": ("dog", "none"), **{f"b/{i}.mp4": ("-", "none") for i in range(3, 10)}})
        self.assertEqual(s["labels"]["labelled"], 5)
        self.assertRegex(self.xdc("index", "shard-0.tar", "--out", "t.lmdb").stdout, r"form +webdataset: .*\n(.*\n)*archives +1, 12 media of 26 members")
        self.assertEqual(self.index("shard-0.tar", "--classes", "none")["form"], None)
        self.assertEqual(set(self.by_name().values()), {("-", "none")})
        (self.dir / "only.txt").write_text("Dog\n7\n")
        s = self.index("shard-0.tar", "--only-classes", "only.txt")
        self.assertEqual((set(self.by_name()), s["list"]["left_out"]), ({"a/0.mp4", "b/2.mp4"}, 10))

    def test_splits(self):
        """A sample's own split, else --split, else the archive's name, else its folder's."""
        sample = [("k.mp4", CLIP), ("k.cls", b"1"), ("l.mp4", CLIP), ("l.json", b'{"split": "test"}')]
        for name in ("k400-train-000.tar", "val_0.tar", "eval/7.tar", "plain.tar"):
            self.tar("s/" + name, *sample)
        s = self.index("s")
        of = {uri.split(".tar#")[0] + uri[-6:]: split for uri, (_, split) in self.videos().items()}
        self.assertEqual(of, {"k400-train-000/k.mp4": "train", "val_0/k.mp4": "val", "eval/7/k.mp4": "test", "plain/k.mp4": "none",
                              **{n + "/l.mp4": "test" for n in ("k400-train-000", "val_0", "eval/7", "plain")}})
        self.assertEqual(s["list"]["split_by_name"], 3)
        s = self.index("s", "--split", "val")
        self.assertEqual((s["splits"], s["list"]["split_by_name"]), ({"none": 0, "train": 0, "val": 4, "test": 4}, 0))

    def test_lists(self):
        """--labels and lists of data sets go by members' names as by files'; two members that fit are ambiguous; they replace .cls."""
        self.tar("s/0.tar", ("cat/a.mp4", CLIP), ("cat/a.cls", b"9"), ("b.mp4", CLIP), ("aaaaaaaaaa1_000010_000020.mp4", CLIP))
        self.tar("s/1.tar", ("b.mp4", CLIP), ("c.mp4", CLIP))
        uri = "1.tar#" + f"{512 + (len(CLIP) + 511) // 512 * 512:012d}" + "/c.mp4"
        (self.dir / "l.csv").write_text(f"path,label,split\r\ncat/a.mp4,cat,train\r\nb.mp4,cow,train\r\n{uri},dog,test\r\na.mp4,no,val\r\n")
        s = self.index("s", "--labels", "l.csv")
        self.assertEqual((s["form"], s["labels"]["labelled"], s["list"]["missing"]), ("labels", 2, {"count": 2, "first": ["b.mp4", "a.mp4"]}))
        self.assertEqual(s["list"]["ambiguous"], {"count": 1, "first": ["b.mp4"]})
        self.assertEqual({u: v for u, v in self.videos().items() if v[0] != "-"}, {"0.tar#000000000000/cat/a.mp4": ("cat", "train"), uri: ("dog", "test")})
        (self.dir / "k.csv").write_text("label,youtube_id,time_start,time_end,split\nyoga,aaaaaaaaaa1,10,20,train\n")
        s = self.index("k.csv", "--media", "s")
        self.assertEqual((s["form"], self.by_name()), ("kinetics", {"aaaaaaaaaa1_000010_000020.mp4": ("yoga", "train")}))


class Changing(Shards):
    def test_changed(self):
        """An archive whose members lie elsewhere, that is cut, or gone: decode and doctor say so; --update takes what is there now."""
        a, b = bytearray(CLIP), bytearray(CLIP)
        a[-1] ^= 1
        self.tar("s/x.tar", ("a.mp4", bytes(a)), ("b.mp4", bytes(b)))
        self.index("s")
        first, second = self.videos()
        self.assertEqual(self.doctor()["faulty"], 0)
        self.tar("s/x.tar", ("b.mp4", bytes(b)), ("a.mp4", bytes(a)))  # the same size, the same places
        self.assertEqual(self.doctor(status=65)["faults"], {"changed_since_index": 2})
        self.assertIn("not as it was indexed: at byte 0 of the archive there is b.mp4", self.decode("s/" + first, status=65))
        s = self.index("s", "--update")
        self.assertEqual(s["update"], {"unchanged": 0, "changed": 0, "gone": 2, "added": 2})
        self.tar("s/x.tar", ("a.mp4", bytes(a)), ("b.mp4", bytes(b)))
        self.index("s")
        data = (self.dir / "s/x.tar").read_bytes()
        (self.dir / "s/x.tar").write_bytes(data[:len(CLIP) + 1500])
        self.assertEqual(self.doctor(status=65)["faults"], {"changed_since_index": 1})
        self.assertIn("ends within", self.decode("s/" + second, status=65))
        self.tar("s/x.tar", ("a.mp4", bytes(a) + b"more"), ("b.mp4", bytes(b)))
        self.assertEqual(self.doctor(status=65)["faults"], {"changed_since_index": 1})
        (self.dir / "s/x.tar").unlink()
        self.assertEqual(self.doctor(status=65)["faults"], {"open_failed": 2})
        self.decode("s/" + first, status=66)

    def test_update(self):
        """Unchanged archives cost no probe; one with another time is probed again; what is appended comes behind."""
        path = self.tar("s/x.tar", ("a.mp4", CLIP), ("b.mp4", CLIP))
        one = self.index("s")
        s = self.index("s", "--update")
        self.assertEqual((s["probed"], s["update"]["unchanged"], s["identity"]), (0, 2, one["identity"]))
        os.utime(path, ns=(1, 1))
        s = self.index("s", "--update")
        self.assertEqual((s["probed"], s["update"]["changed"], s["identity"]), (2, 2, one["identity"]))
        with tarfile.open(path, "a") as t:
            t.addfile(member("0.mp4", CLIP)[0], io.BytesIO(CLIP))
        s = self.index("s", "--update")
        self.assertEqual((s["update"]["added"], names_in(self.videos())), (1, ["a.mp4", "b.mp4", "0.mp4"]))

    def test_interrupted(self):
        """SIGINT ends it with 75; the same command goes on from there."""
        n = 300
        self.tar("s/x.tar", *((f"{i:04}.mp4", CLIP) for i in range(n)))
        command = [XDC, "index", "s", "--out", "m.lmdb", "--json", "--jobs", "1"]
        p = subprocess.Popen(command, cwd=self.dir, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        partial = self.dir / "m.lmdb.partial"
        while p.poll() is None and (not partial.exists() or partial.stat().st_size < 5000):
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=30)[1]
        self.assertEqual(p.returncode, 75, said)
        s = json.loads(self.xdc(*command[1:]).stdout)
        self.assertEqual((s["videos"], s["with_video"]), (n, n))
        self.assertLess(s["probed"], n)
        self.assertGreater(s["probed"], 0)

    def test_doctor_on_broken_members(self):
        """Of members that are damaged the doctor says what it says of such files."""
        members = {"good.mp4": CLIP, "noise.mp4": b"no film" * 300, "cut.mp4": CLIP[:len(CLIP) // 2], "empty.mp4": b"", "last.mp4": CLIP}
        (self.dir / "plain").mkdir()
        for name, data in members.items():
            (self.dir / "plain" / name).write_bytes(data)
        self.tar("s/x.tar", *members.items())
        said = {}
        for folder in ("plain", "s"):
            self.index(folder)
            s = self.doctor(status=65)
            entries = map(json.loads, (self.dir / "m.lmdb.doctor.jsonl").read_text().splitlines())
            said[folder] = {e["uri"].split("/")[-1]: (e["fault"], e["detail"], e["counts"], e["facts"], e["size_bytes"]) for e in entries}
            self.assertEqual((s["videos"], s["faulty"]), (5, 3))
        self.assertEqual(said["s"], said["plain"])
        self.assertEqual(said["s"]["empty.mp4"][0], "empty_file")


class Window(Shards):
    """A member cannot have its neighbours read. Each test shows first that the neighbour would be read if there were no window."""

    def test_sound_that_claims_more(self):
        """A WAV file whose header claims two seconds more than the member holds."""
        write_wav(self.dir / "long.wav", 4)
        whole = (self.dir / "long.wav").read_bytes()
        hostile = whole[:44 + 2 * 32000]
        self.assertEqual(len(hostile) % 4, 0)
        (self.dir / "hostile.wav").write_bytes(hostile)
        path = self.tar("x.tar", ("hostile.wav", hostile), ("secret.wav", whole))
        (self.dir / "open.wav").write_bytes(path.read_bytes()[512:])
        said = {}
        for name in ("hostile.wav", "open.wav", "x.tar#000000000000/hostile.wav"):
            r = self.xdc("decode", name, "--start", 1.5, "--audio-out", "a.npy", "--json")
            said[name] = json.loads(r.stdout)["hash"], (self.dir / "a.npy").read_bytes()
        self.assertNotEqual(said["open.wav"], said["hostile.wav"])
        self.assertEqual(said["x.tar#000000000000/hostile.wav"], said["hostile.wav"])

    def test_film_that_points_outside(self):
        """An MP4 file whose table of places points to the frames of the member behind it."""
        step = (len(CLIP) + 511) // 512 * 512 + 512
        hostile = bytearray(CLIP)
        for at in (i for i in range(len(CLIP)) if CLIP[i:i + 4] == b"stco"):
            for k in range(struct.unpack_from(">I", CLIP, at + 8)[0]):
                place = at + 12 + 4 * k
                struct.pack_into(">I", hostile, place, struct.unpack_from(">I", CLIP, place)[0] + step)
        self.assertNotEqual(hostile, CLIP)
        path = self.tar("x.tar", ("hostile.mp4", bytes(hostile)), ("secret.mp4", CLIP))
        (self.dir / "hostile.mp4").write_bytes(hostile)
        (self.dir / "open.mp4").write_bytes(path.read_bytes()[512:])
        (self.dir / "good.mp4").write_bytes(CLIP)
        self.assertEqual(self.decode("open.mp4"), self.decode("good.mp4"))
        alone = self.decode("hostile.mp4", status=65).split(": ", 2)[2]
        self.assertEqual(self.decode("x.tar#000000000000/hostile.mp4", status=65).split(": ", 2)[2], alone)
        self.index("x.tar")
        self.assertEqual(self.doctor(status=65)["faulty"], 1)


if __name__ == "__main__":
    main()
