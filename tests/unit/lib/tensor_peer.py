"""The other side of test_tensor.c: NumPy (1.24 when written) and a plain parser of safetensors, which share no code with us.

    tensor_peer.py check DIR   reads what the test wrote into DIR; exit 1 when it is not what both sides agreed on
    tensor_peer.py make DIR    writes files for the test to read

Both sides agree on: element i of an array of dtype d is (i * 7 + 3) % 251, minus 100 unless d is unsigned; shape [2, 3, 5].
Exit 77: no NumPy here.
"""
import json
import sys

try:
    import numpy as np
except ImportError:
    sys.exit(77)

DTYPES = {"U8": "u1", "I32": "<i4", "U32": "<u4", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
SHAPE = (2, 3, 5)


def expected(dtype):
    values = (np.arange(30) * 7 + 3) % 251
    if np.dtype(dtype).kind != "u":
        values = values - 100
    return values.astype(dtype).reshape(SHAPE)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def read_safetensors(path):
    blob = open(path, "rb").read()
    n = int.from_bytes(blob[:8], "little")
    assert n % 8 == 0, "header is not padded to 8"
    header = json.loads(blob[8:8 + n])
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        arrays[name] = np.frombuffer(blob[8 + n:][begin:end], DTYPES[info["dtype"]]).reshape(info["shape"])
    assert max(info["data_offsets"][1] for info in header.values()) == len(blob) - 8 - n
    return arrays, metadata


def check(folder):
    for name, dtype in DTYPES.items():
        assert same(np.load(f"{folder}/{name}.npy"), expected(dtype)), name
    assert np.load(f"{folder}/scalar.npy").shape == ()
    assert np.load(f"{folder}/empty.npy").shape == (0, 7)
    assert np.load(f"{folder}/line.npy").shape == (4,)
    arrays, metadata = read_safetensors(f"{folder}/all.safetensors")
    assert list(arrays) == list(DTYPES), list(arrays)
    for name, dtype in DTYPES.items():
        assert same(arrays[name], expected(dtype)), name
    assert metadata == {"format": "pt", "say \"it\"": "gr\u00fc\u00dfe"}, metadata


def write_safetensors(path, arrays):
    header, at = {"__metadata__": {"by": "python"}}, 0
    for name, a in arrays.items():
        dtype = [k for k, v in DTYPES.items() if np.dtype(v) == a.dtype][0]
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))


def make(folder):
    for name, dtype in DTYPES.items():
        np.save(f"{folder}/{name}.npy", expected(dtype))
    for version in (1, 2, 3):
        with open(f"{folder}/version{version}.npy", "wb") as f:
            np.lib.format.write_array(f, expected("<f4"), version=(version, 0))
    np.save(f"{folder}/scalar.npy", np.float64(2.5))
    np.save(f"{folder}/empty.npy", np.zeros((0, 7), "<f4"))
    np.save(f"{folder}/fortran.npy", np.asfortranarray(expected("<f4")))
    np.save(f"{folder}/big_endian.npy", expected(">f4"))
    np.save(f"{folder}/structured.npy", np.zeros(3, [("a", "<f4"), ("b", "<i4")]))
    write_safetensors(f"{folder}/all.safetensors", {name: expected(dtype) for name, dtype in DTYPES.items()})


{"check": check, "make": make}[sys.argv[1]](sys.argv[2])
