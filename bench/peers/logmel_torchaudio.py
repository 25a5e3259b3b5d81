#!/usr/bin/env python3
"""torchaudio's MelSpectrogram and log, one thread: CPU microseconds a clip, one at a time and in batches of 64.
usage: logmel_torchaudio.py"""
import json
import os
import time

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
import torch  # noqa: E402
import torchaudio  # noqa: E402

torch.set_num_threads(1)
mel = torchaudio.transforms.MelSpectrogram(sample_rate=16000, n_fft=512, win_length=400, hop_length=320, f_min=0, f_max=8000, n_mels=40,
                                           power=2, norm=None, mel_scale="htk", center=True, pad_mode="reflect")


def measure(batch, rounds):
    x = torch.rand(batch, 32000) - 0.5 if batch > 1 else torch.rand(32000) - 0.5
    with torch.inference_mode():
        for i in range(-rounds // 10, rounds):
            begin = time.process_time() if i == 0 else (begin if i > 0 else 0)
            torch.log(mel(x)[..., :100] + 1e-6)
    return (time.process_time() - begin) / rounds / batch * 1e6


print(json.dumps({"clip_us": measure(1, 400), "batch64_us": measure(64, 20), "torch": torch.__version__, "torchaudio": torchaudio.__version__}))
