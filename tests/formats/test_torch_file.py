"""Torch's own files without torch: equal bit for bit, nothing executed, nothing believed."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
from child_processes import cpu_environment
from torch_writer import WRITERS, global_, legacy_file, pickled, state_dict, zip_file

from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.architectures.llama_config import write_config
from mentallama_jax.formats.architectures.parameter_names import leaf
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.torch_file import TorchFile
from mentallama_jax.models.module import init_params
from mentallama_jax.models.presets import PRESETS

SOURCE = np.random.default_rng(0)
TENSORS = {
    "embed.weight": SOURCE.normal(size=(7, 5)).astype(np.float32),
    "norm.bias": SOURCE.normal(size=5).astype(np.float16),
    "ids": np.arange(6).reshape(1, 6),
    "flag": np.array([True, False]),
    "one": np.float32(3.5).reshape(()),
    "bytes": np.arange(9, dtype=np.uint8).reshape(3, 3),
}


def read_all(path: Path, inside: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    file = TorchFile(path, inside)
    found = {name: file.read(name) for name in file.tensors}
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == file.tensors
    return found


@pytest.mark.parametrize("form", WRITERS)
def test_both_forms_come_back_bit_for_bit(form: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(WRITERS[form](TENSORS))
    found = read_all(path)
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def torch_cases(torch):
    """Name -> what torch is asked to save."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    kinds = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    yield "dtypes", {kind: (torch.arange(6).reshape(2, 3) % 2).to(getattr(torch, kind)) for kind in kinds}
    yield "views", {"whole": base, "transposed": base.T, "part": base[1:3, ::2], "column": base[:, 3], "last": base[-1]}
    yield "shapes", {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "deep": torch.ones(1, 2, 1, 3, 1)}
    yield "expanded", {"x": torch.tensor([1.0, 2.0]).expand(3, 2), "filler": torch.ones(64)}
    yield "module", torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict()
    yield "parameters", {"p": torch.nn.Parameter(base.clone()), "frozen": torch.nn.Parameter(base, requires_grad=False)}
    yield "unsigned", {"u": torch.tensor([0, 7, 65535], dtype=torch.uint16)}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_whatever_torch_saves_is_read_as_torch_reads_it(is_zip: bool, protocol: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    for name, value in torch_cases(torch):
        if name == "unsigned" and not is_zip:  # torch itself cannot
            continue
        path = tmp_path / f"{name}.pt"
        torch.save(value, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
        wanted = torch.load(path, weights_only=False)
        found = read_all(path)
        assert found.keys() == wanted.keys(), name
        for key, array in found.items():
            theirs = wanted[key].detach().contiguous()
            assert array.shape == tuple(theirs.shape)
            raw = theirs.view(torch.uint8) if theirs.ndim and theirs.numel() else theirs.reshape(-1).view(torch.uint8)
            assert array.tobytes() == raw.numpy().tobytes(), (name, key)


def test_tensors_below_a_key_are_found_where_the_caller_says_so(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    path = tmp_path / "nested.pt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, path)
    assert read_all(path, inside=("model", "state_dict")).keys() == {"a"}
    with pytest.raises(UserError, match="'state_dict' is a dict, no tensor"):
        TorchFile(path)


def package_files(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed")
    folder = Path(spec.origin).parent
    return [path for path in sorted(folder.rglob("*")) if path.suffix in (".bin", ".pth", ".pt")]


@pytest.mark.parametrize("package", ["rxnfp", "rxnmapper", "lpips"])
def test_real_files_are_equal_to_what_torch_loads(package: str) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    compared = 0
    for path in package_files(package):
        if path.name == "training_args.bin":
            continue
        wanted = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(value, torch.Tensor) for value in wanted.values()):  # the state of a schedule
            with pytest.raises(UserError, match="no tensor"):
                TorchFile(path)
            continue
        found = read_all(path)
        assert found.keys() == wanted.keys()
        assert all(found[name].tobytes() == wanted[name].numpy().tobytes() for name in wanted)
        compared += 1
    assert compared


def test_what_is_no_state_dict_is_refused_by_the_name_it_asks_for() -> None:
    (arguments,) = [path for path in package_files("rxnfp") if path.name == "training_args.bin"]
    with pytest.raises(UserError, match=r"it asks for 'argparse\.Namespace', which is not allowed"):
        TorchFile(arguments)


# LLaMA folders that have torch's files alone.

TOY = PRESETS["toy"]


def llama_tensors(params) -> dict[str, np.ndarray]:
    written = {}
    for parameter, _, count in model_parameters(TOY):
        for layer in range(count):
            value = np.asarray(leaf(params, parameter.path))
            written[parameter.name("hf", layer)] = parameter.to_foreign(value[layer] if parameter.stacked else value)
    return written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(write_config(TOY, "float32")))
    return tmp_path


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_llama_folder_of_bin_files_is_the_same_model(form: str, shards: int, folder: Path) -> None:
    params = init_params(TOY, jax.random.key(0))
    tensors = llama_tensors(params)
    if shards == 1:
        (folder / "pytorch_model.bin").write_bytes(WRITERS[form](tensors))
    else:
        names = [f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin" for number in range(shards)]
        weight_map = {name: names[place % shards] for place, name in enumerate(tensors)}
        for file in names:
            part = {name: array for name, array in tensors.items() if weight_map[name] == file}
            (folder / file).write_bytes(WRITERS[form](part))
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config, found = load_model(folder)
    assert config == TOY
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), found, params))
    before = source_fingerprint(str(folder))
    first = sorted(folder.glob("*.bin"))[0]
    content = bytearray(first.read_bytes())
    content[-2000] ^= 1
    first.write_bytes(content)
    assert source_fingerprint(str(folder)) != before


def test_numbers_that_are_not_finite_are_named(folder: Path) -> None:
    tensors = llama_tensors(init_params(TOY, jax.random.key(0)))
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    (folder / "pytorch_model.bin").write_bytes(zip_file(tensors))
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        load_model(folder)


def test_an_index_that_contradicts_its_files_is_refused(folder: Path) -> None:
    tensors = llama_tensors(init_params(TOY, jax.random.key(0)))
    (folder / "a.bin").write_bytes(zip_file(tensors))
    weight_map = dict.fromkeys(tensors, "a.bin")
    del weight_map["model.norm.weight"]
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=r"holds model\.norm\.weight, which .* places in no file"):
        load_model(folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*tensors, "more"], "a.bin")}))
    with pytest.raises(UserError, match="places more in a file that does not hold it"):
        load_model(folder)


# What strangers may write.


class Marker:
    """Unpickled by Python's own `pickle`, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_is_not_executed(protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "model.bin"
    body = pickle.dumps({"a": Marker(marker)}, protocol)
    forms = [body, zip_file({}, body[2:-1]), legacy_file({}, body[2:-1])]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", body)
    for content in (*forms, stream.getvalue()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"^[^\n]{1,400}$"):
            TorchFile(path)
    assert not marker.exists()


NAMES = [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("numpy.core.multiarray", "_reconstruct")]
NAMES += [("torch.storage", "_load_from_bytes"), ("torch._utils", "_rebuild_device_tensor_from_numpy")]
NAMES += [("__builtin__", "getattr"), ("collections", "Counter"), ("torch", "Tensor"), ("torch.nn", "Module")]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_other_name_is_refused_by_name(module: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(zip_file({}, global_(module, name) + b")R"))
    with pytest.raises(UserError, match=rf"it asks for '{module}\.{name}', which is not allowed"):
        TorchFile(path)


ONE = {"a": np.arange(4, dtype=np.float32)}
BODY = state_dict(ONE, legacy=False)
COUNT = b"J" + struct.pack("<i", 4)


def counted(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins neither"),
        (b"PK\x03\x04" + b"x" * 50, "not valid torch file"),
        (b"./PaxHeaders", "very old tar files are not read"),
        (pickled(b"}"), "cut off|none of torch"),
        (zip_file(ONE, BODY.replace(COUNT, counted(5), 1)), "a storage of 5 numbers, which has 16 bytes"),
        (zip_file(ONE, BODY.replace(b"(" + COUNT + b"t", b"(" + counted(5) + b"t")), "reaches beyond its storage"),
        (zip_file(ONE, BODY.replace(b"(" + COUNT + b"t", b"(" + counted(-1) + b"t")), "shape is"),
        (zip_file(ONE, BODY.replace(counted(0), counted(1))), "reaches beyond its storage"),
        (zip_file(ONE, BODY.replace(b"(" + counted(1) + b"t", b"(" + counted(2) + b"t")), "reaches beyond"),
        (zip_file(ONE, BODY.replace(b"FloatStorage", b"DoubleStorage")), "a storage of 4 numbers, which has 16 bytes"),
        (zip_file(ONE, BODY.replace(b"FloatStorage", b"Size")), "is no storage"),
        (zip_file(ONE, BODY + BODY), "left over"),
        (zip_file(ONE, b"}(X\1\0\0\0aNX\1\0\0\0aNu"), "'a' stands twice"),
        (zip_file(ONE, b"](" * 100_000), "more parts than|mark|left over|value is missing|cut off"),
        (zip_file(ONE, b"X\xff\xff\xff\x7f"), "cut off"),
        (zip_file(ONE, b"h\x07"), "goes back to a value that is not there"),
        (zip_file(ONE, b"}"), "no dict of tensors"),
        (zip_file(ONE, b"\x8a\xff" + b"\1" * 255), "an integer of 255 bytes"),
        (legacy_file(ONE)[:-4], "more than there are bytes for"),
        (legacy_file(ONE) + b"more", "4 bytes are left over"),
    ],
)
def test_what_contradicts_itself_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        TorchFile(path)


def test_members_of_the_archive_are_stored_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for compression, twice, said in (
        (zipfile.ZIP_DEFLATED, False, "is compressed"),
        (zipfile.ZIP_STORED, True, "twice"),
    ):
        with zipfile.ZipFile(path, "w", compression) as archive, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            archive.writestr("archive/data.pkl", pickled(BODY))
            for _ in range(1 + twice):
                archive.writestr("archive/data/a", b"\0" * 16)
        with pytest.raises(UserError, match=said):
            TorchFile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(BODY))
        archive.writestr("archive/data/a", ONE["a"].tobytes())
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(UserError, match="little-endian"):
        TorchFile(path)


DAMAGED = """
import random, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import numpy as np
from torch_writer import WRITERS, global_
from mentallama_jax.errors import UserError
from mentallama_jax.formats.torch_file import TorchFile

folder = Path(sys.argv[1])
marker = folder / "executed"
source = np.random.default_rng(0)
tensors = {f"layer.{n}.weight": source.normal(size=(8, 8)).astype(np.float32) for n in range(6)}
whole = {form: write(tensors) for form, write in WRITERS.items()}
attack = global_("os", "system") + b"(X\\x40\\0\\0\\0" + f"touch {marker}".encode().ljust(64)[:64] + b"tR"
read = refused = 0
limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for seed in range(1000):
    random_ = random.Random(seed)
    form = random_.choice(sorted(whole))
    content = bytearray(whole[form])
    kind = seed % 5
    if kind == 0:
        for _ in range(random_.randint(1, 8)):
            content[random_.randrange(len(content))] = random_.randrange(256)
    elif kind == 1:
        del content[random_.randrange(len(content)):]
    elif kind == 2:
        place = random_.randrange(len(content))
        content[place:place] = attack
    elif kind == 3:
        start = random_.randrange(len(content)); stop = random_.randrange(start, min(len(content), start + 40))
        content[start:stop] = bytes(random_.randrange(256) for _ in range(random_.randrange(60)))
    else:
        place = content.find(b"J", random_.randrange(len(content) // 2))
        numbers = [b"\\xff" * 4, b"\\xff\\xff\\xff\\x7f", b"\\0\\0\\0\\x40", b"\\1\\0\\0\\0"]
        content[place + 1 : place + 5] = random_.choice(numbers)
    path = folder / "model.bin"
    path.write_bytes(content)
    try:
        file = TorchFile(path)
        arrays = [file.read(name) for name in file.tensors]
        assert sum(a.nbytes for a in arrays) <= 2 * len(content) * max(1, len(arrays)), seed
        assert all(a.nbytes <= len(content) for a in arrays), seed
        read += 1
    except UserError as error:
        assert "\\n" not in str(error), seed
        refused += 1
    assert not marker.exists(), seed
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - limit
print(read, refused, grown)
"""


def test_a_thousand_damaged_files_end_in_one_line_each(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAMAGED, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused, grown = map(int, done.stdout.split())
    assert read + refused == 1000
    assert refused > 500
    assert grown < 64 * 1024  # kB; the reader's own code and the garbage of a thousand files


def test_a_file_of_opcodes_alone_cannot_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(pickled(b"(" + b"}" * (16 << 20) + b"t"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="more parts than a file of this size can need"):
        TorchFile(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * (path.stat().st_size >> 10)
