"""xdc plan: every example has a plan, published networks have their published cost, and the figures of a small configuration are those
that are computed here by hand."""
import json
import math
import os

from common import SOURCES, CommandTest, main

EXAMPLES = SOURCES / "deploy/examples"
SIZES = {"kinetics": 240_000, "audioset": 2_000_000, "ig65m": 65_000_000, "imagenet": 1_281_167, "vggsound": 170_752, "ucf101": 9_537,
         "hmdb51": 3_570, "esc50": 1_600, "dcase": 100, "quickstart": 200, "avmnist": 1_600}
PHASES = ["stats", "warm", "extract", "cluster", "train", "validate"]


def videos_of(name):
    return next(n for key, n in SIZES.items() if key in name)


def conv(shape, out, kernel, stride):
    """(shape behind a convolution with padding of half its kernel, multiply-adds) of [channels, T, H, W]."""
    c, *size = shape
    size = [(n + 2 * (k // 2) - k) // s + 1 for n, k, s in zip(size, kernel, stride)]
    return [out, *size], math.prod(size) * out * c * math.prod(kernel)


def r2plus1d_10(width, frames, crop):
    """Multiply-adds of the XDC flavour: a block a stage, midplanes of each convolution."""
    shape, macs = conv([3, frames, crop, crop], max(3, 45 * width // 64), (1, 7, 7), (1, 2, 2))
    shape, n = conv(shape, width, (3, 1, 1), (1, 1, 1))
    macs += n
    for stage in range(4):
        out, s, before = width << stage, 2 if stage else 1, shape
        for k, stride in enumerate((s, 1)):
            mid = 27 * shape[0] * out // (9 * shape[0] + 3 * out)
            shape, n = conv(shape, mid, (1, 3, 3), (1, stride, stride))
            shape, m = conv(shape, out, (3, 1, 1), (stride, 1, 1))
            macs += n + m
        macs += conv(before, out, (1, 1, 1), (s, s, s))[1] if stage else 0
    return macs


def resnet_10(width):
    shape, macs = conv([1, 1, 40, 100], width, (1, 7, 7), (1, 2, 2))
    shape = [width, 1, 10, 25]  # max-pool 3x3/2
    for stage in range(4):
        out, s, before = width << stage, 2 if stage else 1, shape
        shape, n = conv(shape, out, (1, 3, 3), (1, s, s))
        shape, m = conv(shape, out, (1, 3, 3), (1, 1, 1))
        macs += n + m + (conv(before, out, (1, 1, 1), (1, s, s))[1] if stage else 0)
    return macs


class Plan(CommandTest):
    def write(self, **keys):
        keys = {"run.dir": "run", "data.manifest": "none.lmdb", **{k.replace("__", "."): v for k, v in keys.items()}}
        return ["-c", self.dir / "x.yaml", *(a for k, v in keys.items() for a in ("--set", f"{k}={v}"))]

    def plan(self, *args, **keys):
        (self.dir / "x.yaml").write_text("method: xdc\n")
        return json.loads(self.xdc("plan", *self.write(**keys), "--json", *args).stdout)

    def test_examples(self):
        """Each of deploy/examples at its real size: as text and as JSON, which say the same; nothing is written."""
        before = sorted(EXAMPLES.iterdir())
        for path in EXAMPLES.glob("*.yaml"):
            with self.subTest(file=path.name):
                args = "plan", "-c", path, "--videos", videos_of(path.name)
                text, p = self.xdc(*args).stdout, json.loads(self.xdc(*args, "--json").stdout)
                self.assertEqual(self.xdc(*args).stderr, "")
                self.assertIn(f"method {p['method']}, {p['rounds']} round", text)
                for enc, e in p["encoders"].items():
                    gmac = e["forward_flop"] / 2e9
                    forward = f"{gmac:.2f} GMAC" if gmac >= 0.1 else f"{1e3 * gmac:.2f} MMAC"
                    self.assertRegex(text, rf"(?m)^{enc} +{e['parameters']} +{forward} ")
                by_phase = {x["phase"]: x for x in p["by_phase"]}
                self.assertEqual([x for x in PHASES if x in by_phase], list(by_phase))
                for name, x in by_phase.items():
                    of = [y for y in p["phases"] if y["phase"] == name]
                    self.assertEqual(len(of), x["times"])
                    for key in "gpu_hours", "decode_core_hours", "network_bytes", "cluster_flop":
                        self.assertAlmostEqual(sum(y[key] for y in of), x[key], delta=1e-9 * x[key])
                    self.assertRegex(text, rf"(?m)^{name} ")
                trained = "supervised" not in p["method"] and "last" not in path.name
                self.assertEqual("cluster" in by_phase, trained)
                self.assertEqual(by_phase["train"]["times"], p["rounds"])
                if trained:
                    self.assertEqual((by_phase["extract"]["times"], by_phase["cluster"]["times"]), (p["rounds"] + 1, p["rounds"] + 1))
                flop = sum(p["all"]["flop"].values())
                self.assertAlmostEqual(p["all"]["gpu_hours"], flop / 200e12 / 3600, delta=1e-9 * flop)
                for part in "disk", "trainer_memory", "clusterer_memory":
                    self.assertAlmostEqual(sum(p[part].values()), 2 * p[part]["total"], delta=1)
                self.assertLessEqual(max(map(len, text.splitlines())), 130)
        self.assertEqual(sorted(EXAMPLES.iterdir()), before)

    def test_page(self):
        """docs/plan.md shows what the program prints."""
        text = self.xdc("plan", "-c", EXAMPLES / "xdc-kinetics.yaml", "--videos", 240000).stdout
        page = "\n" + (SOURCES / "docs/plan.md").read_text()
        self.assertIn("\n" + "".join(("    " + line).rstrip() + "\n" for line in text.splitlines()), page)

    def test_published(self):
        """GMAC and parameters of the published networks, and the EFLOP of a published round: 30 epochs of a million clips."""
        for keys, gmac, parameters in (({}, 20.75, 33165639), ({"net__flavour": "torchvision"}, 20.26, 31300125),
                                       ({"video__crop": 224, "video__resize": 256}, 82.99, 33165639),
                                       ({"video__frames": 32}, 82.99, 33165639),
                                       ({"net__audio_stem": "vmz"}, 20.75, 33165639)):
            e = self.plan("--videos", 10, **keys)["encoders"]
            self.assertEqual((round(e["video"]["forward_flop"] / 2e9, 2), e["video"]["parameters"]), (gmac, parameters))
            vmz = "net__audio_stem" in keys
            self.assertEqual((round(e["audio"]["forward_flop"] / 2e6), e["audio"]["parameters"]), (230, 11202528) if vmz else (185, 11170240))
        p = json.loads(self.xdc("plan", "-c", EXAMPLES / "xdc-kinetics.yaml", "--videos", 240000, "--set", "train.holdout=0", "--set",
                                "train.early_stop=0", "--json").stdout)
        one = next(x for x in p["phases"] if x["phase"] == "train")
        self.assertAlmostEqual(one["flop"]["video"] / 1e18, 15, delta=0.1)
        self.assertAlmostEqual(one["gpu_hours"], 21, delta=0.3)

    def test_by_hand(self):
        """Every figure of a small run, computed here."""
        videos, rounds, epochs, batch, k, frames, crop, each = 1000, 3, 4, 16, 12, 5, 40, 3
        p = self.plan("--videos", videos, "--gpu-tflops", 0.5, "--decode-rate", 100, data__clips_per_video=each, train__rounds=rounds,
                      train__epochs=epochs, train__batch=batch, cluster__k=k, cluster__iterations=7, cluster__restarts=2,
                      video__frames=frames, video__crop=crop, video__resize=48, net__video_depth=10, net__video_width=8,
                      net__audio_depth=10, net__audio_width=6, train__holdout=0.05, train__holdout_min_clips=1, stats__clips=400,
                      stats__batches=5, features__dtype="f16", train__last_round_epochs=6, run__ranks=2, train__keep_checkpoints=2)
        clips, held = videos * each, videos // 20 * each
        self.assertEqual((p["clips"], p["held_out"], p["videos"], p["video_seconds"]), (clips, held, videos, 10 * videos))
        video, audio = 2 * r2plus1d_10(8, frames, crop), 2 * resnet_10(6)
        heads = 2 * 64 * k, 2 * 48 * k
        e = p["encoders"]
        self.assertEqual([e[n]["forward_flop"] for n in ("video", "audio")], [video, audio])
        self.assertEqual([e[n]["train_flop"] for n in ("video", "audio")], [3 * (video + heads[0]), 3 * (audio + heads[1])])
        self.assertEqual([e[n]["features"] for n in ("video", "audio")], [64, 48])
        used = 1 - held / clips
        wanted = {("stats", 0): (400 * used, 0, 0), ("warm", 0): (5 * batch * used, video, audio)}
        for r in range(rounds + 1):
            wanted["extract", r] = clips, video, audio
            wanted["cluster", r] = clips - held, 0, 0
        for r in range(rounds):
            n = 6 if r == rounds - 1 else epochs
            wanted["train", r] = (clips - held) * n, 3 * (video + heads[0]), 3 * (audio + heads[1])
            wanted["validate", r] = held * n, video + heads[0], audio + heads[1]
        self.assertEqual({(x["phase"], x["round"]) for x in p["phases"]}, set(wanted))
        sample = 3 * frames * crop * crop + 40 * 100 * 4
        # docs/plan.md: milliseconds, as shares of the measured clip's
        picture = 87.04 * (0.0230 + 0.00209 * frames) + 0.00366 * frames * crop * crop / 1e3
        reference = 1.18 + 1.55 + 87.04 * (0.0230 + 0.00209 * 8) + 0.00366 * 8 * 112 * 112 / 1e3
        for x in p["phases"]:
            n, v, a = wanted[x["phase"], x["round"]]
            with self.subTest(phase=x["phase"], round=x["round"]):
                self.assertEqual(x["clips"], round(n))
                self.assertAlmostEqual(x["flop"]["video"], n * v, delta=1e-9 * n * v)
                self.assertAlmostEqual(x["flop"]["audio"], n * a, delta=1e-9 * n * a)
                hours = n * (v + a) / 0.5e12 / 3600
                self.assertAlmostEqual(x["gpu_hours"], hours, places=9)
                cluster = x["phase"] == "cluster"
                self.assertEqual(x["cluster_flop"], 2 * n * k * (64 + 48) * 7 * 2 if cluster else 0)
                stats = x["phase"] == "stats"
                core_hours = 0 if cluster else n * (1.18 + 1.55 + (0 if stats else picture)) / reference / 100 / 3600
                self.assertAlmostEqual(x["decode_core_hours"], core_hours, places=9)
                self.assertAlmostEqual(x["decode_cores"], core_hours / (hours / 2) if hours else 0, places=6)
                self.assertAlmostEqual(x["network_bytes"], 0 if cluster else n * (16000 if stats else sample), delta=1)
        parameters = sum(x["parameters"] for x in e.values())
        positions = clips * (epochs * (rounds - 1) + 6)
        disk = p["disk"]
        self.assertEqual(disk["manifest"], 86 * videos)
        self.assertEqual(disk["labels"], 4 * 2 * clips)
        self.assertEqual(disk["ledger"], 48 * positions)
        blocks = [(min(1024, clips - b), d) for b in range(0, clips, 1024) for d in (64, 48)]
        self.assertEqual(disk["features"], 3 * sum(-(-(n * d * 2 + 16) // 4096) * 4096 for n, d in blocks))
        least = 3 * 4 * (2 * parameters + 2 * k * (64 + 1 + 48 + 1))
        self.assertTrue(least < disk["checkpoints"] < 1.02 * least, (least, disk))
        self.assertEqual(p["clusterer_memory"]["rows"], 4 * 64 * clips)
        self.assertEqual(p["trainer_memory"]["samples"], 4 * batch / 2 * sample)

    def test_methods(self):
        """What differs between methods and settings, against plain xdc."""
        def of(name, **keys):
            p = self.plan("--videos", 4000, train__rounds=2, train__epochs=3, train__holdout=0, **keys)
            return p, {x["phase"]: x for x in p["by_phase"]}.get(name)
        base, train = of("train")
        extract = of("extract")[1]
        self.assertEqual(set(base["encoders"]), {"video", "audio"})
        both, same = of("train", method="same-modality")
        self.assertEqual(set(both["encoders"]), {"video-a", "video-b"})
        self.assertEqual((same["clips"], same["samples"]), (train["clips"], 2 * train["samples"]))
        self.assertNotIn("stats", [x["phase"] for x in both["by_phase"]])
        self.assertEqual(same["network_bytes"], 2 * train["clips"] * 3 * 8 * 112 * 112)
        sdc, apart = of("train", method="sdc")
        self.assertEqual((apart["samples"], apart["network_bytes"]), (2 * train["samples"], train["network_bytes"]))
        cdc, joint = of("cluster", method="cdc", cluster__normalize="pca-whiten-l2", cluster__pca_dim=100)
        self.assertEqual(joint["cluster_flop"], 3 * 2 * 4000 * 256 * 100 * 20)
        self.assertEqual(cdc["disk"]["labels"] * 2, base["disk"]["labels"])
        self.assertEqual(of("train", method="mdc")[0]["encoders"]["video"]["heads"], 2)
        frozen = of("train", train__update="fc")[1]["flop"]["video"]
        video = base["encoders"]["video"]
        self.assertEqual(frozen, train["clips"] * (video["forward_flop"] + 3 * video["head_flop"]))
        recomputed = of("train", train__recompute="true")[1]["flop"]["video"] / train["flop"]["video"]
        self.assertTrue(1.25 < recomputed < 4 / 3, recomputed)
        self.assertEqual(of("train", train__recompute="true", net__video="s3d")[1]["flop"]["video"],
                         of("train", net__video="s3d")[1]["flop"]["video"])
        given, table = of("cluster", method="supervised")
        self.assertEqual((table, [x["phase"] for x in given["by_phase"]]), (None, ["stats", "warm", "train"]))
        self.assertEqual(given["encoders"]["video"]["heads"], 0)  # of unknown classes
        self.assertIn("unknown classes", self.xdc("plan", *self.write(method="supervised"), "--videos", 9).stdout)
        selavi, passes = of("extract", method="selavi", selavi__groups=3)
        self.assertEqual((passes["clips"], passes["samples"]), (3 * extract["clips"], 3 * extract["samples"]))
        self.assertEqual(selavi["disk"]["labels"], 3 * 10 * 4000 * 2)
        steps = [x["clips"] for x in selavi["phases"] if x["phase"] == "train"]
        self.assertEqual((sum(steps), len(steps)), (2 * 3 * 4000, 2))
        self.assertLess(steps[0], steps[1])
        only, once = of("extract", train__epoch_clips=1000)
        self.assertEqual((once, only["by_phase"][-1]["clips"]), (extract, 2 * 3 * 1000))
        harvest = of("extract", train__harvest="true", train__epoch_clips=1000)[1]
        self.assertEqual(harvest["clips"], 4000 + 2 * 3000)
        half = of("extract", data__subset__n=1000)
        self.assertEqual((half[0]["videos"], half[1]["clips"]), (1000, 3 * 1000))
        warm = of("warm", net__init_video="v.safetensors", net__init_audio="a.safetensors")
        self.assertEqual((warm[1], warm[0]["by_phase"][0]["phase"]), (None, "extract"))
        aside = of("extract", cluster__dir="aside", features__keep_rounds=1)[0]["disk"]
        self.assertEqual((aside["replicas"], aside["features"]), (aside["features"], base["disk"]["features"] * 2 / 3))
        ema = of("train", train__ema=0.9)[0]["disk"]
        self.assertEqual(ema["export"], 2 * base["disk"]["export"])
        self.assertGreater(ema["checkpoints"], 1.4 * base["disk"]["checkpoints"])

    def test_extraction(self):
        """Without rounds: one extraction, of one encoder if one is asked for; windows are counted by the videos' length."""
        p = self.plan("--videos", 50, "--seconds", 12, train__rounds=0, net__encoders="audio", data__clip_times="windows", data__window_s=2,
                      data__clips_per_video=40)
        last = p["by_phase"][-1]
        self.assertEqual((last["phase"], last["times"]), ("extract", 1))
        cover = math.ceil(2 / (8 / 30) - 1e-9)
        self.assertEqual(last["clips"], 50 * min(40, (math.floor((12 - 1) / 2) + 1) * cover))
        self.assertEqual(last["flop"]["video"], 0)
        self.assertEqual(last["network_bytes"], last["clips"] * 16000)
        self.assertEqual(set(p["disk"]), {"manifest", "features", "checkpoints", "total"})
        self.assertEqual(p["trainer_memory"], {"total": 0})

    def test_manifest(self):
        """The manifest's videos count where it is there, and what is said in its place."""
        self.xdc("synth", "--out", "clips", "--videos", 12, "--classes", 2, "--seed", 0)
        self.xdc("index", "clips", "--labels", "clips/labels.csv", "--out", "none.lmdb")
        p, e = self.plan(), self.plan("--videos", 500, "--size", "640x360", "--fps", 60, "--seconds", 3)
        everything = self.plan(data__split="all")
        self.assertEqual((p["videos_from"], e["videos_from"], e["videos"]), ("manifest", "--videos", 500))
        self.assertTrue(0 < p["videos"] < everything["videos"] == 12)
        self.assertEqual(p["disk"]["manifest"], os.path.getsize(self.dir / "none.lmdb"))
        self.assertEqual((e["assumptions"]["video_fps"], e["assumptions"]["video_pixels"]), (60, 640 * 360))
        self.assertEqual(e["video_seconds"], 1500)
        self.assertLess(p["assumptions"]["video_pixels"], 640 * 360)
        self.assertEqual(self.plan(method="supervised")["encoders"]["video"]["head_parameters"], 2 * 513)
        twice = self.plan("--size", "640x360")["assumptions"]
        self.assertEqual((twice["video_pixels"], twice["video_fps"]), (640 * 360, p["assumptions"]["video_fps"]))
        self.assertLess(twice["decode_clips_per_core_s"], p["assumptions"]["decode_clips_per_core_s"])
        r = self.xdc("plan", *self.write(data__subset__n=13), status=78)
        self.assertIn("data.subset.n is 13", r.stderr)
        (self.dir / "none.lmdb").write_bytes(b"no manifest")
        self.assertIn("none.lmdb", self.xdc("plan", *self.write(), status=65).stderr)

    def test_refused(self):
        """Wrong arguments are 64, a wrong configuration 78 with its place, no number of videos 66 with what to do."""
        (self.dir / "x.yaml").write_text("method: xdc\nvideo:\n  cropp: 3\n")
        r = self.xdc("plan", "-c", "x.yaml", "--videos", 3, status=78)
        self.assertIn("x.yaml:3:3", r.stderr)
        (self.dir / "x.yaml").write_text("method: xdc\n")
        for args in ([], ["-c"], ["-c", "x.yaml", "more"], ["-c", "x.yaml", "--videos", "0"], ["-c", "x.yaml", "--videos", "many"],
                     ["-c", "x.yaml", "--size", "340"], ["-c", "x.yaml", "--size", "340x"], ["-c", "x.yaml", "--size", "-3x9"],
                     ["-c", "x.yaml", "--size", "340x256x3"], ["-c", "x.yaml", "--fps", "0"], ["-c", "x.yaml", "--gpu-tflops", "0"],
                     ["-c", "x.yaml", "--decode-rate", "-1"], ["-c", "x.yaml", "--seconds", "nan"], ["-c", "x.yaml", "--what"]):
            with self.subTest(args=args):
                r = self.xdc("plan", *args, status=64)
                self.assertEqual(r.stdout, "")
                self.assertIn("see xdc plan --help", r.stderr)
        for sets in ("train.rounds=x", "train.batch=7"):
            self.assertIn("run.ranks" if "batch" in sets else "train.rounds",
                          self.xdc("plan", *self.write(run__ranks=2), "--set", sets, "--videos", 9, status=78).stderr)
        self.assertIn("data.subset.n", self.xdc("plan", *self.write(data__subset__n=10), "--videos", 9, status=78).stderr)
        r = self.xdc("plan", *self.write(), status=66)
        self.assertIn("none.lmdb", r.stderr)
        self.assertIn("--videos is not given", r.stderr)
        self.assertEqual(self.xdc("plan", "--help").stdout.splitlines()[0], "examples:")


main()
