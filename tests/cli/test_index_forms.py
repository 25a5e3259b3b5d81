"""xdc index: the lists of the known data sets, told by their content; each fixture with the videos, classes and splits it must give."""
import json
import subprocess
import sys
import unittest

from common import CommandTest, golden_clip, main, write_wav

SHOW = sys.argv[3]
CLIP = golden_clip()


class Forms(CommandTest):
    def media(self, *names):
        for name in names:
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".wav":
                write_wav(path, 0.2)
            else:
                path.write_bytes(CLIP)

    def write(self, name, text):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def index(self, *args, status=0):
        r = self.xdc("index", *args, "--out", "m.lmdb", "--json", "--jobs", 2, *(["--force"] if (self.dir / "m.lmdb").exists() else []),
                     status=status)
        return json.loads(r.stdout) if status == 0 else r.stderr

    def videos(self):
        """uri -> (class, split)"""
        r = subprocess.run([SHOW, "m.lmdb"], cwd=self.dir, capture_output=True, text=True, check=True)
        return {uri: (label, split) for uri, label, split in (line.split("\t") for line in r.stdout.splitlines())}

    def missing(self):
        path = self.dir / "m.lmdb.missing"
        return path.read_text().splitlines() if path.exists() else []

    # folders

    def test_class_folders(self):
        """Folders of clips are classes when they are asked for, and only then."""
        self.media("set/cat/a.mp4", "set/big dog/b.mp4", "set/cat/c.mp4")
        s = self.index("set")
        self.assertEqual((s["form"], s["labels"]["classes"], s["splits"]["none"]), (None, 0, 3))
        s = self.index("set", "--classes", "folders")
        self.assertEqual((s["form"], s["labels"]["classes"], s["labels"]["labelled"]), ("folders", 2, 3))
        self.assertEqual(self.videos(), {"big dog/b.mp4": ("big dog", "none"), "cat/a.mp4": ("cat", "none"), "cat/c.mp4": ("cat", "none")})
        s = self.index("set", "--classes", "folders", "--only-classes", self.write("only.txt", "Big_dog\nhorse\n"))
        self.assertEqual(self.videos(), {"big dog/b.mp4": ("big dog", "none")})
        self.assertEqual((s["list"]["left_out"], s["list"]["classes_unknown"]), (2, {"count": 1, "first": ["horse"]}))

    def test_split_folders(self):
        """train/CLASS beside val/CLASS or test/CLASS is found by itself, stills too; --classes none leaves it alone."""
        self.media("set/train/cat/a.JPEG", "set/train/dog/b.JPEG", "set/val/cat/c.JPEG", "set/test/cat/d.JPEG", "set/train/cow/e.JPEG")
        s = self.index("set")
        self.assertEqual(s["form"], "folders")
        self.assertEqual(self.videos(), {"train/cat/a.JPEG": ("cat", "train"), "train/dog/b.JPEG": ("dog", "train"), "val/cat/c.JPEG": ("cat", "val"),
                                         "test/cat/d.JPEG": ("cat", "test"), "train/cow/e.JPEG": ("cow", "train")})
        self.assertEqual(s["list"]["classes_without_test_clips"], {"count": 2, "first": ["cow", "dog"]})
        self.assertRegex(self.xdc("index", "set", "--out", "n.lmdb").stdout, r"no test clips 2 classes have none: cow, dog\n")
        s = self.index("set", "--classes", "none")
        self.assertEqual((s["form"], s["splits"]["none"], s["labels"]["classes"]), (None, 5, 0))

    def test_folders_that_are_no_classes(self):
        """What does not fit is named when classes are asked for, and leaves the videos unlabelled when they are not."""
        self.media("set/train/cat/a.mp4", "set/test/dog/b.mp4", "set/loose.mp4", "two/train/a.mp4", "two/test/b.mp4", "one/cat/a.mp4",
                   "deep/train/cat/a.mp4", "deep/other/dog/b.mp4")
        for folder, word in (("set", "loose.mp4"), ("two", "splits without classes"), ("one", "two classes"), ("deep", "that is not so")):
            with self.subTest(folder=folder):
                self.assertEqual(self.index(folder)["form"], None)
                self.assertIn(word, self.index(folder, "--classes", "folders", status=65))

    def test_splits_that_are_not_found_by_themselves(self):
        """Without train, or with train alone, folders of splits count only when they are asked for."""
        self.media("a/val/cat/a.mp4", "a/test/dog/b.mp4", "b/train/cat/a.mp4", "b/train/dog/b.mp4")
        for folder, split in (("a", "val"), ("b", "train")):
            with self.subTest(folder=folder):
                self.assertEqual(self.index(folder)["form"], None)
                self.assertEqual(self.index(folder, "--classes", "folders")["form"], "folders")
                self.assertEqual(self.videos()[f"{split}/cat/a.mp4"], ("cat", split))

    # data sets

    def test_kinetics(self):
        """Kinetics: media by id and start; two segments of a video are two clips; a class list makes it Kinetics-Sound."""
        text = ("label,youtube_id,time_start,time_end,split,is_cc\r\n"
                "air drumming,-aaaaaaaaa1,10,20,train,0\r\n\"tap, dance\",bbbbbbbbb_2,0,10,validate,0\r\n"
                "air drumming,-aaaaaaaaa1,30,40,test,0\r\nsinging,ccccccccc-3,5,15,train,1\r\nsinging,ddddddddd_4,5,15,train,1\r\n")
        self.media("k/air_drumming/-aaaaaaaaa1_000010_000020.mp4", "k/air_drumming/-aaaaaaaaa1_000030_000040.mp4", "k/bbbbbbbbb_2.mp4",
                   "k/ccccccccc-3_000006_000016.mp4", "k/other.mp4")
        s = self.index(self.write("train.csv", "\ufeff" + text), "--media", "k")
        self.assertEqual(s["form"], "kinetics")
        want = {"air_drumming/-aaaaaaaaa1_000010_000020.mp4": ("air drumming", "train"),
                "air_drumming/-aaaaaaaaa1_000030_000040.mp4": ("air drumming", "test"), "bbbbbbbbb_2.mp4": ("tap, dance", "val")}
        self.assertEqual(self.videos(), want)
        self.assertEqual(s["list"]["missing"], {"count": 2, "first": ["ccccccccc-3", "ddddddddd_4"]})
        self.assertEqual(self.missing(), ["ccccccccc-3", "ddddddddd_4"])
        self.assertEqual(s["list"]["classes_without_clips"], {"count": 1, "first": ["singing"]})
        self.assertEqual(s["list"]["classes_without_test_clips"], {"count": 1, "first": ["tap, dance"]})
        self.assertEqual(s["labels"], {"classes": 2, "labelled": 3, "unmatched_rows": 2, "unmatched_files": 2})
        s = self.index("train.csv", "--media", "k", "--only-classes", self.write("sound.txt", "# Kinetics-Sound\nair_drumming\nwhistling\n"))
        self.assertEqual(set(self.videos()), {u for u in want if "air" in u})
        self.assertEqual((s["list"]["left_out"], s["list"]["missing"]["count"]), (3, 0))
        self.assertEqual(s["list"]["classes_unknown"], {"count": 1, "first": ["whistling"]})
        self.assertEqual(self.missing(), [])

    def test_kinetics_by_name_of_the_list(self):
        """Without a split column the list's name says the split, or --split; several lists are read together."""
        self.media("k/aaaaaaaaaa1.mp4", "k/aaaaaaaaaa2.mp4")
        head = "youtube_id,time_start,time_end,label\n"
        self.write("k700_train.csv", head + "aaaaaaaaaa1,0,10,yoga\n")
        self.write("k700_val.csv", head + "aaaaaaaaaa2,0,10,yoga\n")
        s = self.index("k700_train.csv", "k700_val.csv", "--media", "k")
        self.assertEqual(self.videos(), {"aaaaaaaaaa1.mp4": ("yoga", "train"), "aaaaaaaaaa2.mp4": ("yoga", "val")})
        self.assertEqual(s["list"]["split_by_name"], 2)
        s = self.index("k700_train.csv", "--media", "k", "--split", "test")
        self.assertEqual((self.videos(), s["list"]["split_by_name"]), ({"aaaaaaaaaa1.mp4": ("yoga", "test")}, 0))

    AUDIOSET = ("# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=3, num_segs=3\n# YTID, start_seconds, end_seconds, positive_labels\n"
                '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n--ZhevVpy1s, 50.500, 60.500, "/m/012xff"\n'
                '--aE2O5G5WE, 0.000, 10.000, "/m/03fwl,/m/04rlf,/m/09x0r"\n--aO5cdqSAg, 30.000, 40.000, "/t/dd00003"\n')

    def test_audioset(self):
        """AudioSet: the first label is the class, by its code or by the name of class_labels_indices.csv; several ways to name files."""
        self.media("a/--PJHxphWEs_30000_40000.wav", "a/--ZhevVpy1s_50.500.mp4", "a/Y--aE2O5G5WE.mp4")
        s = self.index(self.write("balanced_train_segments.csv", self.AUDIOSET), "--media", "a")
        self.assertEqual((s["form"], s["list"]["several_labels"], s["list"]["missing"]["first"]), ("audioset", 2, ["--aO5cdqSAg"]))
        self.assertEqual(self.videos(), {"--PJHxphWEs_30000_40000.wav": ("/m/09x0r", "train"), "--ZhevVpy1s_50.500.mp4": ("/m/012xff", "train"),
                                         "Y--aE2O5G5WE.mp4": ("/m/03fwl", "train")})
        names = self.write("class_labels_indices.csv", 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/03fwl,"Goat, bleat"\n2,/m/77,"Unheard"\n')
        s = self.index(names, "balanced_train_segments.csv", "--media", "a")
        self.assertEqual([label for label, _ in self.videos().values()], ["Speech", "/m/012xff", "Goat, bleat"])
        self.assertEqual(s["list"]["classes_without_clips"]["first"], ["/t/dd00003", "Unheard"])

    def test_vggsound(self):
        """VGGSound: quoted labels with commas, media by id and second; a repeated row counts once, a contradictory one is named."""
        text = ('---g-f_I2yQ,1,"people marching",test\n--0PQM4-hqg,30,"waterfall burbling, far",train\n--0PQM4-hqg,30,"waterfall burbling, far",train\n'
                "--0PQM4-hqg,30,other,train\n--56QUhyDQM,185,playing tennis,train\n")
        self.media("v/---g-f_I2yQ_000001.mp4", "v/--0PQM4-hqg_000030.mp4", "v/--56QUhyDQM_000185.mp4", "v/more/--56QUhyDQM_000185.mp4")
        s = self.index(self.write("vggsound.csv", text), "--media", "v")
        self.assertEqual(s["form"], "vggsound")
        self.assertEqual(self.videos(), {"---g-f_I2yQ_000001.mp4": ("people marching", "test"),
                                         "--0PQM4-hqg_000030.mp4": ("waterfall burbling, far", "train")})
        self.assertEqual((s["repeated"], s["list"]["conflicting"]), (1, {"count": 1, "first": ["--0PQM4-hqg"]}))
        self.assertEqual(s["list"]["ambiguous"], {"count": 1, "first": ["--56QUhyDQM"]})
        self.assertEqual(self.missing(), ["--56QUhyDQM"])

    def test_ave(self):
        """AVE: fields between &; the times lie within the clip and are ignored."""
        self.media("AVE/RUhOCu3LNXM.mp4", "AVE/YlR1zQW1NKY.mp4")
        self.write("trainSet.txt", "Category&VideoID&Quality&StartTime&EndTime\r\nChurch bell&RUhOCu3LNXM&good&0&10\r\n")
        self.write("testSet.txt", "Male speech, man speaking&YlR1zQW1NKY&good&2&10\n")
        s = self.index("trainSet.txt", "testSet.txt", "--media", "AVE")
        self.assertEqual((s["form"], s["list"]["times_ignored"]), ("ave", 2))
        self.assertEqual(self.videos(), {"RUhOCu3LNXM.mp4": ("Church bell", "train"), "YlR1zQW1NKY.mp4": ("Male speech, man speaking", "test")})

    def test_ucf101(self):
        """UCF101: numbers of classInd, splits by the lists' names, media in class folders or flat or with another ending."""
        self.write("l/classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n")
        self.write("l/trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n")
        self.write("l/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nHandStandPushups/v_HandStandPushups_g01_c01.avi\r\n"
                                       "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi\r\n")
        self.media("ucf/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "ucf/v_HandStandPushups_g08_c01.mp4",
                   "ucf/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "ucf/HandstandPushups/v_HandStandPushups_g01_c01.avi")
        lists = ("l/classInd.txt", "l/trainlist01.txt", "l/testlist01.txt")
        s = self.index(*lists, "--media", "ucf")
        self.assertEqual(s["form"], "ucf101")
        self.assertEqual(self.videos(), {"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi": ("ApplyEyeMakeup", "train"),
                                         "v_HandStandPushups_g08_c01.mp4": ("HandstandPushups", "train"),
                                         "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": ("ApplyEyeMakeup", "test"),
                                         "HandstandPushups/v_HandStandPushups_g01_c01.avi": ("HandstandPushups", "test")})
        self.assertEqual(s["list"]["missing"], {"count": 1, "first": ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi"]})
        self.assertEqual(s["list"]["classes_without_clips"], {"count": 1, "first": ["YoYo"]})
        table = self.xdc("index", *lists, "--media", "ucf", "--out", "n.lmdb").stdout
        self.assertRegex(table, r"form +ucf101: UCF101 trainlist")
        self.assertRegex(table, r"missing +1 named and not there: ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi\n +all of them are in n.lmdb.missing")
        self.assertIn("classInd.txt", self.index("l/trainlist01.txt", "--media", "ucf", status=65))
        self.write("l/trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 9\n")
        self.assertIn("trainlist01.txt:1: no class has the number 9", self.index(*lists, "--media", "ucf", status=65))

    def test_hmdb51(self):
        """HMDB51: 1 is train, 2 is test, 0 is neither; the class is in the list's name; a name in two class folders goes by the class."""
        self.write("s/brush_hair_test_split1.txt", "April_09 (x).avi 1 \nsame.avi 2 \nunused.avi 0 \n")
        self.write("s/wave_test_split1.txt", "same.avi 1\nw&w.avi 2\ngone.avi 2\n")
        self.media("h/brush_hair/April_09 (x).avi", "h/brush_hair/same.avi", "h/brush_hair/unused.avi", "h/wave/same.avi", "h/wave/w&w.avi")
        s = self.index("s/brush_hair_test_split1.txt", "s/wave_test_split1.txt", "--media", "h")
        self.assertEqual((s["form"], s["list"]["missing"]["first"]), ("hmdb51", ["gone.avi"]))
        self.assertEqual(self.videos(), {"brush_hair/April_09 (x).avi": ("brush_hair", "train"), "brush_hair/same.avi": ("brush_hair", "test"),
                                         "brush_hair/unused.avi": ("brush_hair", "none"), "wave/same.avi": ("wave", "train"),
                                         "wave/w&w.avi": ("wave", "test")})

    def test_esc50(self):
        """ESC-50: --fold N is the test split; without it there are no splits; a fold that is not there is named."""
        head = "filename,fold,target,category,esc10,src_file,take\n"
        rows = "".join(f"{f}-{i}-A-{i}.wav,{f},{i},{c},True,{i},A\n" for f in (1, 2, 3) for i, c in enumerate(("dog", "rain")))
        self.media(*(f"ESC/audio/{f}-{i}-A-{i}.wav" for f in (1, 2, 3) for i in (0, 1)))
        self.write("ESC/meta/esc50.csv", head + rows + "3-9-A-9.wav,3,9,crow,True,9,A\n")
        s = self.index("ESC/meta/esc50.csv", "--media", "ESC", "--fold", 2)
        self.assertEqual(s["form"], "esc50")
        self.assertEqual(self.videos(), {f"audio/{f}-{i}-A-{i}.wav": (c, "test" if f == 2 else "train")
                                         for f in (1, 2, 3) for i, c in enumerate(("dog", "rain"))})
        self.assertEqual((s["list"]["missing"]["first"], s["list"]["classes_without_clips"]["first"]), (["3-9-A-9.wav"], ["crow"]))
        self.assertEqual(self.index("ESC/meta/esc50.csv", "--media", "ESC")["splits"], {"none": 6, "train": 0, "val": 0, "test": 0})
        self.assertIn("has the folds 1 2 3", self.index("ESC/meta/esc50.csv", "--media", "ESC", "--fold", 4, status=64))

    def test_dcase(self):
        """DCASE 2014: tabs, test lists with or without labels."""
        self.media("d/audio/bus 01.wav", "d/audio/park02.wav", "d/audio/park03.wav")
        self.write("d/fold1_train.txt", "audio/bus 01.wav\tbus\naudio/park02.wav\topen air market\n")
        self.write("d/fold1_test.txt", "audio/park03.wav\n")
        s = self.index("d/fold1_train.txt", "d/fold1_test.txt")
        self.assertEqual((s["form"], s["list"]["unlabelled"]), ("list", 1))
        self.assertEqual(self.videos(), {"audio/bus 01.wav": ("bus", "train"), "audio/park02.wav": ("open air market", "train"),
                                         "audio/park03.wav": ("-", "test")})

    # lists

    def test_list(self):
        """A path and its label: comments, quotes, spaces in either, CRLF, doubles; from the list's folder or else from --media."""
        text = ('\ufeff# my list\r\n"a b.mp4" "big dog"\r\nc d.mp4 big cat\r\n./c d.mp4   big cat\r\n\r\n"c d.mp4"\tcow\r\n'
                "e.mp4 dog\r\ngone.mp4 bird\r\n")
        self.media("lists/a b.mp4", "lists/c d.mp4", "films/e.mp4")
        s = self.index(self.write("lists/mine.txt", text), "--media", "films")
        self.assertEqual(s["form"], "list")
        root = str(self.dir.resolve())
        self.assertEqual(self.videos(), {root + "/lists/a b.mp4": ("big dog", "none"), root + "/lists/c d.mp4": ("big cat", "none"),
                                         "e.mp4": ("dog", "none")})
        self.assertEqual((s["repeated"], s["list"]["conflicting"]["first"]), (1, ["c d.mp4"]))
        self.assertEqual(s["list"]["classes_without_clips"], {"count": 2, "first": ["bird", "cow"]})
        self.assertEqual(self.missing(), ["gone.mp4"])

    def test_jsonl(self):
        """JSON lines: path, label, split; times are ignored and counted; a faulty line is named."""
        text = ('{"path": "a.mp4", "label": "caf\\u00e9", "split": "train", "start": 0, "end": 2}\n\n{"label": 7, "path": "b c.mp4", "split": null}\n'
                '{"path": "gone.mp4", "label": null}\n')
        self.media("j/a.mp4", "j/b c.mp4")
        s = self.index(self.write("j/x.jsonl", text))
        self.assertEqual((s["form"], s["list"]["times_ignored"], s["list"]["missing"]["first"]), ("jsonl", 1, ["gone.mp4"]))
        self.assertEqual(self.videos(), {"a.mp4": ("caf\u00e9", "train"), "b c.mp4": ("7", "none")})
        for line, word in (('{"path": 3}', "no path"), ("[1]", "no JSON object"), ('{"path": "a.mp4", "split": "dev"}', "split"),
                           ('{"path": "a.mp4", "label": [1]}', "label"), ('{"path": "a.mp4"', "no JSON object")):
            with self.subTest(line=line):
                said = self.index(self.write("j/bad.jsonl", '{"path": "a.mp4"}\n' + line + "\n"), status=65)
                self.assertIn("bad.jsonl:2: ", said)
                self.assertIn(word, said)

    def test_paths_with_missing_ones(self):
        """A list of paths alone keeps those that are missing as unreadable videos, and names them."""
        self.media("a.mp4")
        s = self.index(self.write("files.txt", "a.mp4\r\na.mp4\r\ngone film.mp4\r\n"))
        self.assertEqual((s["form"], s["videos"], s["repeated"], s["unreadable"]), ("paths", 2, 1, {"open_failed": 1}))
        self.assertEqual(self.missing(), ["gone film.mp4"])
        self.assertIn("none of the 1 media", self.index(self.write("files.txt", "gone film.mp4\n"), status=66))

    def test_any_form_as_labels(self):
        """--labels takes every form: all files stay, those that the list names have classes."""
        self.media("v/---g-f_I2yQ_000001.mp4", "v/plain.mp4", "v/x.mp4")
        s = self.index("v", "--labels", self.write("vgg.csv", '---g-f_I2yQ,1,"a, b",test\n'))
        self.assertEqual(self.videos(), {"---g-f_I2yQ_000001.mp4": ("a, b", "test"), "plain.mp4": ("-", "none"), "x.mp4": ("-", "none")})
        self.assertEqual((s["form"], s["labels"]["unmatched_files"]), ("vggsound", 2))
        s = self.index(self.write("some.txt", "v/plain.mp4\nv/x.mp4\n"), "--labels", self.write("l.csv", "path,label\nv/x.mp4,cow\n"))
        self.assertEqual(self.videos(), {"v/plain.mp4": ("-", "none"), "v/x.mp4": ("cow", "none")})

    # what is refused

    def test_ambiguous(self):
        """Content that two forms could have written names both, and --form decides."""
        self.media("A/x.mp4", "A/y.mp4", "z.mp4", "idididididi.mp4")
        cases = (("t.txt", "A/x.mp4 3\nA/y.mp4 3\n", ("ucf101", "list"), "list", 2), ("u.txt", "z.mp4 1\n", ("hmdb51", "list"), "list", 1),
                 ("v.csv", "idididididi,30,40,train\n", ("audioset", "vggsound"), "vggsound", 1))
        for name, text, forms, form, videos in cases:
            with self.subTest(name=name):
                said = self.index(self.write(name, text), status=65)
                for word in (*forms, "--form"):
                    self.assertIn(word, said)
                s = self.index(name, "--form", form)
                self.assertEqual((s["form"], s["videos"]), (form, videos))

    def test_refused(self):
        """Mixed forms, lists whose media are elsewhere, options that do not go together: one sentence, no manifest."""
        self.media("v/a.mp4")
        kinetics = self.write("k.csv", "label,youtube_id,time_start,time_end,split\nyoga,aaaaaaaaaa1,0,10,train\n")
        vggsound = self.write("v.csv", "aaaaaaaaaa1,0,yoga,train\n")
        paths = self.write("p.txt", "v/a.mp4\n")
        for args, status, word in (([kinetics, vggsound], 65, "several"),
                                   ([kinetics, "--media", "v"], 66, "none of the 1 media"), ([kinetics, "v"], 64, "v is no list"),
                                   (["v", "--media", "v"], 64, "--media"), ([paths, "--only-classes", paths], 64, "no labels"),
                                   (["v", "--only-classes", paths], 64, "no labels"), ([paths, "--fold", 1], 64, "no folds"),
                                   (["v", "--form", "list"], 64, "--form"), ([paths, "--classes", "folders"], 64, "a list"),
                                   ([paths, "--form", "nonsense"], 64, "kinetics"), ([kinetics, "gone.csv"], 66, "gone.csv")):
            with self.subTest(args=args):
                self.assertIn(word, self.index(*args, status=status))
                self.assertFalse((self.dir / "m.lmdb").exists())

    def test_faulty_rows(self):
        """A row that its form cannot be is named by its line, wherever it is."""
        good = "aaaaaaaaaa1,0,yoga,train\n"
        head = "label,youtube_id,time_start,time_end,split\n"
        esc = "filename,fold,target,category\n"
        ave = "Bell&aaaaaaaaaa1&good&0&10\n"
        for text, line, word in ((good * 8 + "aaaaaaaaaa1,x,yoga,train\n", 9, "youtube_id,start"), (good * 8 + 'a,0,"yoga,train\n', 9, "quote"),
                                 (head + "yoga,aaaaaaaaaa1,soon,10,train\n", 2, "soon"), (head + "yoga,aaaaaaaaaa1,0,10\n", 2, "4 fields"),
                                 (head + "yoga,aaaaaaaaaa1,0,10,dev\n", 2, "dev"), (esc + "a.wav,one,1,dog\n", 2, "fold"),
                                 (ave * 8 + "Bell&x\n", 9, "Category"), (self.AUDIOSET * 2 + "x,1,2\n", 15, "start")):
            with self.subTest(text=text[-30:]):
                said = self.index(self.write("x.csv", text), status=65)
                self.assertIn(f"x.csv:{line}: ", said)
                self.assertIn(word, said)

    def test_update(self):
        """A list that has grown adds its videos behind the known ones; what is no longer missing leaves the list of what is."""
        self.media("a.mp4")
        self.write("x.txt", "a.mp4 cat\nb.mp4 dog\n")
        one = self.index("x.txt")
        self.assertEqual(self.missing(), ["b.mp4"])
        self.media("0.mp4", "b.mp4")
        self.write("x.txt", "a.mp4 cow\nb.mp4 dog\n0.mp4 dog\n")
        s = json.loads(self.xdc("index", "x.txt", "--out", "m.lmdb", "--update", "--json").stdout)
        self.assertEqual((s["update"], s["probed"]), ({"unchanged": 1, "changed": 0, "gone": 0, "added": 2}, 2))
        self.assertEqual(list(self.videos().items()), [("a.mp4", ("cow", "none")), ("0.mp4", ("dog", "none")), ("b.mp4", ("dog", "none"))])
        self.assertEqual(self.missing(), [])
        self.assertNotEqual(one["identity"], s["identity"])


main()
