"""deploy/examples: each file is a configuration that `xdc run -n` takes, names its row, and is no copy of another.
usage: test_examples.py BIN_DIR"""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BIN, FOLDER = os.path.abspath(sys.argv[1]), Path(__file__).resolve().parents[2] / "deploy" / "examples"
FILES = sorted(FOLDER.glob("*.yaml"))
SMALL = {"quickstart.yaml", "avmnist.yaml"}  # what runs here: no row
TABLES = {"t1-methods", "t2-k", "t3-data", "t4-fc-vs-all", "t5-video-sota", "t6-audio-sota", "selavi-metrics", "DeepCluster"}
# What a head comment must say of a file of that method, and of that manifest.
METHODS = {"xdc": "XDC", "sdc": "SDC|DeepCluster", "mdc": "MDC", "cdc": "CDC", "same-modality": "Same-modality XDC",
           "selavi": "SeLaVi", "supervised": 'Superv|"all"|"fc"'}
SETS = {"kinetics.lmdb": "Kinetics", "audioset.lmdb": "AudioSet", "ig65m.lmdb": "IG-Random and IG-Kinetics",
        "imagenet.lmdb": "ImageNet", "vggsound.lmdb": "VGG-Sound", "ucf101-1.lmdb": "UCF101",
        "hmdb51-1.lmdb": "HMDB51", "esc50-1.lmdb": "ESC-50", "dcase.lmdb": "DCASE 2014"}


def values(path):
    """{key with dots: text} of a file of nested maps; the form that the examples keep to."""
    out, sections = {}, []
    for line in path.read_text().splitlines():
        line = re.sub(r"(^|\s+)#.*", "", line)
        if not line:
            continue
        depth, key, value = re.fullmatch(r"( *)([a-z0-9_]+):(?: +(\S+))?", line).groups()
        sections = sections[:len(depth) // 2] + [key]
        if value is not None:
            out[".".join(sections)] = value
    return out


def head(path):
    lines = path.read_text().splitlines()
    return lines[:next(i for i, line in enumerate(lines) if not line.startswith("#"))]


ROWS = [(path, head(path), values(path)) for path in FILES if path.name not in SMALL]


def check(path, *sets):
    args = [a for s in sets for a in ("--set", s)]
    return subprocess.run([f"{BIN}/xdc", "run", "-c", str(path), "-n", *args], capture_output=True, text=True, cwd="/", timeout=60)


class Examples(unittest.TestCase):
    def test_accepted(self):
        """-n takes every file, names the place in one with a wrong key or value, and leaves nothing behind."""
        before = sorted(FOLDER.iterdir())
        for path in FILES:
            with self.subTest(file=path.name):
                r = check(path)
                self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "configuration is good\n", ""))
        self.assertEqual(sorted(FOLDER.iterdir()), before)
        text = (FOLDER / "xdc-kinetics.yaml").read_text()
        with tempfile.TemporaryDirectory(prefix="xdc-test-") as folder:
            for wrong in (("warmup_epochs", "warm_epochs"), ("schedule: step", "schedule: steps"), ("ranks: 8", "ranks: 7")):
                spoilt = Path(folder) / "spoilt.yaml"
                self.assertIn(wrong[0], text)
                spoilt.write_text(text.replace(*wrong))
                r = check(spoilt)
                self.assertEqual(r.returncode, 78, r.stdout)
                self.assertIn("spoilt.yaml:", r.stderr)

    def test_no_copies(self):
        """Two files differ in more than comments and the directory of the run."""
        seen = {}
        for path in FILES:
            v = values(path)
            v.pop("run.dir")
            same = seen.setdefault(tuple(sorted(v.items())), path.name)
            self.assertEqual(same, path.name)

    def test_head(self):
        """The head says the row, with the method and the set that the file has, and how its manifest is made."""
        tables = set()
        for path, lines, v in ROWS:
            with self.subTest(file=path.name):
                self.assertTrue(lines[0].startswith("# Row "), lines[0])
                text = "\n".join(lines)
                named = {t for t in TABLES if re.search(rf"\b{t}\b", text)}
                self.assertTrue(named, "no table is named")
                tables |= named
                self.assertRegex(text, METHODS[v["method"]])
                self.assertRegex(text, rf"\b{SETS[v['data.manifest']]}\b")
                self.assertEqual("AudioSet-240K" in text, v.get("data.subset.n") == "240000")
                self.assertRegex(text, rf"(?m)^#   xdc index .*--out {re.escape(v['data.manifest'])}( |$)")
                self.assertEqual(v["run.dir"], "runs/" + path.stem)
                frames = re.search(r"(\d+) frames", text)
                if frames:
                    self.assertEqual(frames[1], v.get("video.frames", "8"))
        self.assertEqual(tables, TABLES)
        methods = "\n".join(line for _, lines, _ in ROWS for line in lines if "t1-methods" in line)
        for name in ("Scratch", "Superv", "SDC", "MDC", "CDC", "XDC", "Same-modality XDC"):
            self.assertRegex(methods, rf"(?<!-modality ){name}")

    def test_commands_of_the_heads(self):
        """What a head says of --set, of another file or of an encoder is there."""
        runs = {"runs/" + p.stem for p in FILES}
        for path, lines, v in ROWS:
            with self.subTest(file=path.name):
                text = path.read_text()
                for name in re.findall(r"[a-z0-9-]+\.yaml", text):
                    self.assertTrue((FOLDER / name).exists(), name)
                sets = re.findall(r"--set ((?:data|net|cluster|same|train)\.[a-z_]+=[^\s,;.)]*(?:\.[0-9]+)?)", text)
                if sets:
                    self.assertEqual(check(path, *sets).returncode, 0, sets)
                for key in ("net.init_video", "net.init_audio", "labels.from"):
                    if key in v:
                        self.assertIn("/".join(v[key].split("/")[:2]), runs)

    def test_finetuning(self):
        """Fine-tuning is of one encoder, and its head has the command that chooses the rate: of that encoder and manifest, with --set
        options that the file has too."""
        files = [row for row in ROWS if row[0].name.startswith("finetune-")]
        self.assertGreater(len(files), 9)
        for path, lines, v in files:
            with self.subTest(file=path.name):
                sees = v["net.encoders"]
                self.assertIn(f"net.init_{sees}", v)
                text = re.sub(r" \\\n#", "", "\n".join(lines))
                command = re.findall(r"(?m)^#   xdc eval finetune (\S+) (\S+) (.*)$", text)
                self.assertEqual([c[:2] for c in command], [(v[f"net.init_{sees}"], v["data.manifest"])])
                self.assertEqual("--update fc" in command[0][2], v.get("train.update") == "fc")
                for key, value in re.findall(r"--set ([a-z_.]+)=(\S+)", command[0][2]):
                    self.assertEqual(v[key], value)
                preset = re.search(r"--preset (\S+)", command[0][2])
                if preset:
                    self.assertTrue(path.stem[9:].startswith(preset[1].removesuffix("-32")), preset[1])
                    self.assertEqual(preset[1].endswith("-32"), v.get("video.frames") == "32")

    def test_rates(self):
        """Each of several ranks has its share of the batch and of the rate, and the warm-up begins with one rank's rate."""
        for path, _, v in ROWS:
            with self.subTest(file=path.name):
                ranks = int(v.get("run.ranks", 1))
                if "train.warmup_epochs" in v and ranks > 1:
                    self.assertEqual(float(v["train.warmup_start"]) * ranks, 1)
                if v["method"] == "xdc":
                    clips = 32 if v.get("video.frames", "8") == "8" else 8
                    self.assertEqual(int(v["train.batch"]), clips * ranks)
                    self.assertAlmostEqual(float(v["train.lr"]), 0.01 * clips / 32 * ranks)


unittest.main(argv=sys.argv[:1], verbosity=2)
