#!/usr/bin/env python3
"""What a run may ask for beyond the defaults, all at once: other networks, SeLaVi's heads kept between rounds, warm-up and steps,
epochs as slices, parts of batches, recomputing, clipping, batch-norm measured anew. A run that is stopped in the midst and goes on
ends as one that was not, bit for bit. Then fine-tuning from its encoders: "fc" leaves them as they are, another network is refused.
usage: test_options.py BIN_DIR"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xdctest import (TINY, Place, check_ledger, log_of, make_manifest, outcome_differs, sets, tensors_of,  # noqa: E402
                     write_config)

NETS = {"net.video": "mc3", "net.flavour": "torchvision", "net.audio_stem": "vmz"}
OPTIONS = {**NETS, "heads.kind": "mlp", "heads.between_rounds": "keep", "train.schedule": "step", "train.warmup_epochs": "0.5",
           "train.step_epochs": "0.5", "train.epoch_clips": "50", "train.last_round_epochs": "3", "train.micro_batch": "3",
           "train.recompute": "true", "train.clip_norm": "1", "train.norm_decay": "1e-4", "train.head_lr": "0.1",
           "train.recalibrate": "true", "train.amp": "bf16", "train.pad_channels": "on", "train.self_test": "on"}


def main():
    place = Place(sys.argv[1])
    manifest = make_manifest(place, videos=24, flaws=False)
    calm, stopped, tuned = place.path("calm"), place.path("stopped"), place.path("tuned")
    place.xdc("run", "-c", write_config(place, manifest, calm, "calm.yaml"), *sets(OPTIONS))
    print("undisturbed:", check_ledger(calm, 5, 1), flush=True)

    config = write_config(place, manifest, stopped, "stopped.yaml")
    run = place.start("xdc", "run", "-c", config, *sets(OPTIONS))
    place.training(run, epoch=1)
    status, said = place.stop(run)
    assert status == 75, f"{status}\n{said}"
    place.xdc("run", "-c", config, *sets(OPTIONS))
    differs = outcome_differs(calm, stopped)
    assert not differs, f"not equal to the undisturbed run: {differs}"
    print("stopped and gone on: equal", flush=True)

    init = {**NETS, "method": "supervised", "train.rounds": "1", "train.update": "fc",
            "net.init_video": os.path.join(calm, "export", "video.safetensors"),
            "net.init_audio": os.path.join(calm, "export", "audio.safetensors")}
    config = write_config(place, manifest, tuned, "tuned.yaml")
    place.xdc("run", "-c", config, *sets(init))
    for encoder in ("video", "audio"):
        files = [os.path.join(r, "export", f"{encoder}.safetensors") for r in (calm, tuned)]
        assert tensors_of(files[0]) == tensors_of(files[1]), f"the frozen {encoder} encoder has changed"
    assert "mean and deviation are those of" in log_of(tuned, "trainer-0")
    place.xdc("export", tuned, "--encoder", "video", "--head", "fc", "--out", place.path("fc.safetensors"))
    assert b'"fc.weight"' in open(place.path("fc.safetensors"), "rb").read(100000)
    refused = place.xdc("export", calm, "--encoder", "video", "--flavour", "xdc", "--out", place.path("no"), expect=65).stderr
    assert "is of flavour torchvision" in refused, refused

    other = place.path("other")
    text = TINY.replace("train: {", "limits: {max_bad_share: 0.9}\ntrain: {")
    run = place.start("xdc-trainer", "-c", write_config(place, manifest, other, "other.yaml", text),
                      *sets({"net.init_video": init["net.init_video"]}))
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 65 and "tensors do not fit" in said and "stem.3.weight is missing" in said, said
    place.close()


main()
