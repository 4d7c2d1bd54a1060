# SPDX-License-Identifier: Apache-2.0
"""Writes corpus/<target>/: the files that the fuzz targets begin with and that every test run replays.

"ok-..." must be read, "bad-..." must be refused with exit code 65; "cut-..." and what a fuzzer found may end either way.
Deterministic, standard library alone. Valid files that other programs wrote come from tests/golden/.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
CUTS = (0.1, 0.5, 0.9)  # of one valid file of each format
HUGE = 10**18


# --- safetensors -------------------------------------------------------------------------------------------------

def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def one(body, data=bytes(8)):
    return safetensors("{" + body + "}", data)


def safetensors_files():
    fine = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    two = {"a": entry([2], 0, 8), "b": entry([2], 8, 16)}
    widths = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    every, at = {}, 0
    for dtype, width in widths.items():
        every[dtype.lower()] = entry([3], at, at + 3 * width, dtype)
        at += 3 * width
    deep = "[" * 3_000
    return {
        "ok-two": safetensors(two, bytes(range(16))),
        "ok-every-dtype": safetensors(every, bytes(at)),
        "ok-metadata": safetensors({"__metadata__": {"format": "pt", "note": "ä"}, **two}, bytes(16)),
        "ok-no-tensors": safetensors("{}"),
        "ok-scalar": safetensors({"count": entry([], 0, 8, "I64")}, bytes(8)),
        "ok-empty-tensor": safetensors({"none": entry([0, 3], 0, 0), **two}, bytes(16)),
        "ok-spaces-after-header": safetensors("{" + fine + "}     ", bytes(8)),
        "ok-other-order": safetensors({"b": entry([2], 8, 16), "a": entry([2], 0, 8)}, bytes(16)),
        "bad-overlap": safetensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
        "bad-same-place": safetensors({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)),
        "bad-gap": safetensors({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, bytes(20)),
        "bad-beyond-file": safetensors({"a": entry([100], 0, 400)}, bytes(8)),
        "bad-offsets-reversed": safetensors({"a": entry([2], 8, 0)}, bytes(8)),
        "bad-offsets-63-bits": safetensors({"a": entry([2], 2**63 - 8, 2**63 - 1)}, bytes(8)),
        "bad-offsets-64-bits": safetensors({"a": entry([2], 2**64 - 8, 2**64)}, bytes(8)),
        "bad-offset-negative": safetensors({"a": entry([2], -8, 8)}, bytes(8)),
        "bad-1e18-elements": safetensors({"a": entry([HUGE], 0, 8)}, bytes(8)),
        "bad-1e18-elements-claimed": safetensors({"a": entry([HUGE], 0, 4 * HUGE)}, bytes(8)),
        "bad-shape-overflows-to-two": safetensors({"a": entry([2**62, 8], 0, 0)}),
        "bad-shape-overflows": safetensors({"a": entry([2**32, 2**32, 2], 0, 8)}, bytes(8)),
        "bad-17-dimensions": safetensors({"a": entry([1] * 17, 0, 4)}, bytes(4)),
        "bad-header-2-to-64": safetensors("{}", length=2**64 - 1),
        "bad-header-1e18": safetensors("{}", length=HUGE),
        "bad-header-cut": safetensors("{" + fine + "}", length=500),
        "bad-header-empty": safetensors("", length=0),
        "bad-name-twice": one(fine + "," + fine),
        "bad-field-twice": one('"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}'),
        "bad-metadata-twice": one('"__metadata__":{},"__metadata__":{},' + fine),
        "bad-metadata-number": one('"__metadata__":{"a":1},' + fine),
        "bad-deep-list": safetensors('{"a":' + deep + "]" * 3_000 + "}"),
        "bad-deep-open": safetensors('{"a":' + '{"a":' * 1_000),
        "bad-deep-shape": one('"a":{"dtype":"F32","shape":' + "[" * 3_000 + "2" + "]" * 3_000 + ',"data_offsets":[0,8]}'),
        "bad-name-no-utf8": safetensors(b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "bad-name-empty": one('"":' + fine[4:]),
        "bad-name-5000-bytes": one('"' + "n" * 5_000 + '":' + fine[4:]),
        "bad-dtype-unknown": safetensors({"a": entry([8], 0, 8, "F8_E4M3")}, bytes(8)),
        "bad-field-unknown": one('"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"run":"rm"}'),
        "bad-fraction": one('"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}'),
        "bad-number-overflows": one('"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}'),
        "bad-bool-of-2": safetensors({"a": entry([3], 0, 3, "BOOL")}, b"\0\1\2"),
        "bad-bytes-unclaimed": safetensors({"a": entry([2], 0, 8)}, bytes(9)),
        "bad-list": safetensors("[]"),
        "bad-short": b"short",
        "bad-nothing": b"",
        "bad-hash": safetensors({"__metadata__": {"triphase.xxh3": "0123456789abcdef"}, **two}, bytes(16)),
    }


# --- torch.save --------------------------------------------------------------------------------------------------

def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value):
    if 0 <= value < 256:
        return b"K" + struct.pack("<B", value)
    if -2**31 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def function(module, name):
    return f"c{module}\n{name}\n".encode()


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key="0", elements=2, offset=0, sizes=(2,), strides=(1,), kind="FloatStorage"):
    storage = b"(" + text("storage") + function("torch", kind) + text(key) + text("cpu") + integer(elements) + b"tQ"
    return (function("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + integer(offset) + numbers(sizes) +
            numbers(strides) + b"\x89" + function("collections", "OrderedDict") + b")RtR")


def body(opcodes):
    return b"\x80\x02" + opcodes


def dict_of(*items):
    """An OrderedDict of (name, opcodes that push the value)."""
    return body(function("collections", "OrderedDict") + b")R(" + b"".join(text(n) + v for n, v in items) + b"u.")


def call(module, name, *arguments):
    """What pickle runs when it reads an object whose __reduce__ returns this call."""
    return body(function(module, name) + b"(" + b"".join(arguments) + b"tR.")


def stored(*members, flags=0):
    """A zip archive of (name, bytes), stored."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def torch_file(pickle, *storages, order=b"little"):
    members = [("m/data.pkl", pickle), ("m/byteorder", order)]
    members += [(f"m/data/{i}", storage) for i, storage in enumerate(storages)]
    return stored(*members, ("m/version", b"3\n"))


def patched(archive, mark, offset, value, which=-1):
    """The archive with other bytes at an offset from a record's mark: of its first (0) or last (-1) occurrence."""
    at = (archive.find(mark) if which == 0 else archive.rfind(mark)) + offset
    return archive[:at] + value + archive[at + len(value):]


def zip_by_hand(members, directory):
    """Records of (name, flags, method, bytes, real size), and a directory of (name, method, size, real size, crc, place)."""
    out, places = b"", []
    for name, method, content, size, crc in members:
        places.append(len(out))
        out += b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, crc, len(content), size, len(name), 0) + name + content
    begin = len(out)
    for name, method, stored_size, size, crc, member in directory:
        out += b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, method, 0, 0, crc, stored_size, size, len(name), 0, 0, 0, 0, 0,
                                       places[member]) + name
    return out + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(directory), len(directory), len(out) - begin, begin, 0)


def deflate_bomb():
    zeros = bytes(10 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = packer.compress(zeros) + packer.flush()
    crc = zlib.crc32(zeros)
    record = (b"m/data.pkl", 8, content, len(zeros), crc)
    return zip_by_hand([record], [(b"m/data.pkl", 8, len(content), len(zeros), crc, 0)])


def overlapping_bomb():
    """Many names for the same bytes. Source: D. Fifield, A better zip bomb, WOOT 2019."""
    content = bytes(4096)
    crc = zlib.crc32(content)
    directory = [(b"m/data/%03d" % i, 0, len(content), len(content), crc, 0) for i in range(200)]
    return zip_by_hand([(b"m/data/000", 0, content, len(content), crc)], directory)


def pickles():
    fine = dict_of(("a", tensor()))
    system = text("echo harm")
    files = {
        "ok-one": fine,
        "ok-nothing": body(b"}."),
        "ok-wrapped": dict_of(("state_dict", b"}(" + text("a") + tensor() + b"u"), ("epoch", integer(3))),
        "ok-parameter": dict_of(("a", function("torch._utils", "_rebuild_parameter") + b"(" + tensor() + b"\x88" +
                                 function("collections", "OrderedDict") + b")RtR")),
        "bad-os-system": call("os", "system", system),
        "bad-posix-system": call("posix", "system", system),
        "bad-os-system-inside": dict_of(("a", function("os", "system") + b"(" + system + b"tR")),
        "bad-os-system-as-attributes": body(b"}" + function("posix", "system") + b"(" + system + b"tRb."),
        "bad-builtins-eval": call("builtins", "eval", text("1")),
        "bad-builtins-exec-2": call("__builtin__", "exec", text("1")),
        "bad-builtins-getattr": call("builtins", "getattr", text("a"), text("b")),
        "bad-subprocess": call("subprocess", "Popen", system),
        "bad-torch-load": call("torch", "load", text("x.pt")),
        "bad-torch-storage-from-file": call("torch", "FloatStorage", integer(HUGE)),
        "bad-rebuild-of-objects": call("torch._utils", "_rebuild_tensor_v2", *[b"N"] * 6),
        "bad-inst": body(b"(" + system + b"ios\nsystem\n."),
        "bad-obj": body(b"(" + function("os", "system") + system + b"o."),
        "bad-newobj": body(function("os", "system") + b"(" + system + b"t\x81."),
        "bad-stack-global": body(text("os") + text("system") + b"\x93."),
        "bad-extension": body(b"\x84" + struct.pack("<i", 1) + b"."),
        "bad-persid": body(b"Pstorage\n."),
        "bad-protocol-4": b"\x80\x04\x95" + struct.pack("<Q", 5) + b"}.",
        "bad-string-4-gb": body(b"X" + struct.pack("<I", 2**32 - 1) + b"abc"),
        "bad-memo-bomb": body(b"Nr" + struct.pack("<I", 2**32 - 1) + b"."),
        "bad-memo-unknown": body(b"h\x07."),
        "bad-integer-9-bytes": body(b"\x8a\x09" + b"\1" * 9 + b"."),
        "bad-tuples-in-tuples": body(b")" + b"\x85" * 3_000),
        "bad-tuples-doubled": body(b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"."),
        "bad-marks": body(b"(" * 17_000),
        "bad-dict-in-itself": body(b"}q\0" + text("state_dict") + b"h\0s."),
        "bad-name-twice": dict_of(("a", tensor()), ("a", tensor())),
        "bad-name-no-utf8": dict_of((b"\xff", tensor())),
        "bad-17-dimensions": dict_of(("a", tensor(sizes=[1] * 17, strides=[1] * 17))),
        "bad-size-negative": dict_of(("a", tensor(sizes=[-2]))),
        "bad-goes-on": fine + b".",
        "bad-nothing": b"",
    }
    return files


def torch_files():
    two = bytes(8)
    fine_pickle = dict_of(("a", tensor()))
    fine = torch_file(fine_pickle, two)
    files = {f"ok-{name}.pt": (GOLDEN / "torch" / f"{name}.pt").read_bytes()
             for name in ("ordered_dict", "plain_dict", "parameters", "views", "dtypes", "model_wrapper")}
    files |= {f"bad-{name}.pt": (GOLDEN / "torch" / f"refused_{name}.pt").read_bytes()
              for name in ("object", "list", "protocol", "expanded")}

    def tensor_file(**lies):
        return torch_file(dict_of(("a", tensor(**lies))), two)

    return files | {
        "ok-zipfile.pt": fine,
        "bad-os-system.pt": torch_file(call("posix", "system", text("echo harm"))),
        "bad-os-system-inside.pt": torch_file(dict_of(("a", function("os", "system") + b"(" + text("echo harm") + b"tR"))),
        "bad-name-absolute.pt": stored(("/etc/cron.d/x", b"x"), ("m/data.pkl", fine_pickle), ("m/data/0", two)),
        "bad-name-dotdot.pt": stored(("m/data.pkl", fine_pickle), ("m/../../x", b"x"), ("m/data/0", two)),
        "bad-name-drive.pt": stored(("C:/x", b"x"), ("m/data.pkl", fine_pickle)),
        "bad-name-backslash.pt": stored(("m\\x", b"x"), ("m/data.pkl", fine_pickle)),
        "bad-two-folders.pt": stored(("m/data.pkl", fine_pickle), ("n/data/0", two)),
        "bad-no-pickle.pt": stored(("word/document.xml", b"x")),
        "bad-member-twice.pt": zip_by_hand([(b"m/data.pkl", 0, fine_pickle, len(fine_pickle), zlib.crc32(fine_pickle))] * 2,
                                           [(b"m/data.pkl", 0, len(fine_pickle), len(fine_pickle), zlib.crc32(fine_pickle), i) for i in (0, 1)]),
        "bad-bomb-deflated.pt": deflate_bomb(),
        "bad-bomb-overlapping.pt": overlapping_bomb(),
        "bad-size-lie.pt": patched(fine, b"PK\1\2", 24, struct.pack("<I", 2**31), which=0),
        "bad-size-64-bits.pt": patched(fine, b"PK\1\2", 20, b"\xff" * 8, which=0),
        "bad-place-lie.pt": patched(fine, b"PK\1\2", 42, struct.pack("<I", 2**32 - 2), which=0),
        "bad-encrypted.pt": patched(fine, b"PK\1\2", 8, b"\1\0", which=0),
        "bad-checksum.pt": patched(fine, b"PK\1\2", 16, b"\1\2\3\4", which=0),
        "bad-comment.pt": patched(fine, b"PK\5\6", 20, b"\7\0"),
        "bad-many-files.pt": patched(fine, b"PK\5\6", 8, b"\xff\xff\xff\xff"),
        "bad-directory-lie.pt": patched(fine, b"PK\5\6", 16, struct.pack("<I", 2**32 - 1)),
        "bad-appended.pt": fine + b"x",
        "bad-storage-1e18.pt": tensor_file(elements=HUGE),
        "bad-elements-1e18.pt": tensor_file(sizes=[HUGE]),
        "bad-elements-1e18-of-one.pt": tensor_file(sizes=[HUGE], strides=[0]),
        "bad-elements-overflow.pt": tensor_file(sizes=[2**40, 2**40], strides=[2**40, 1]),
        "bad-offset-beyond.pt": tensor_file(offset=2**62),
        "bad-offset-one.pt": tensor_file(offset=1),
        "bad-storage-missing.pt": tensor_file(key="../../../etc/passwd"),
        "bad-big-endian.pt": torch_file(fine_pickle, two, order=b"big"),
        "bad-before-1.6.pt": b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
        "bad-nothing.pt": b"",
    }


# --- adapter_config.json -----------------------------------------------------------------------------------------

def adapter_configs():
    plain = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "lora_dropout": 0.1, "bias": "none", "use_rslora": False,
             "target_modules": ["conv2", "query"], "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}

    def with_(**changes):
        return json.dumps(plain | changes).encode()

    files = {f"ok-peft-{name}.json": (GOLDEN / "peft" / name / "adapter_config.json").read_bytes()
             for name in ("plain", "rslora", "heads")}
    slow = "([a-z_.0-9]+)+[!?]"
    return files | {
        "ok-short.json": with_(),
        "ok-newer-keys.json": with_(peft_version="9.9", something_new={"a": [1]}),
        "ok-patterns.json": with_(rank_pattern={r"layer[34]\..*conv2": 5, "query": 2}, alpha_pattern={"conv2": 0.5}),
        "ok-expression.json": with_(target_modules=r".*\.layer[1-4]\.\d+\.conv2"),
        "bad-dora.json": with_(use_dora=True),
        "bad-ia3.json": with_(peft_type="IA3"),
        "bad-no-type.json": json.dumps({"r": 8, "target_modules": ["q"]}).encode(),
        "bad-no-targets.json": json.dumps({"peft_type": "LORA"}).encode(),
        "bad-bias.json": with_(bias="all"),
        "bad-rank-0.json": with_(r=0),
        "bad-rank-negative.json": with_(r=-1),
        "bad-rank-1e18.json": with_(r=HUGE),
        "bad-rank-text.json": with_(r="8"),
        "bad-rank-fraction.json": with_(r=8.5),
        "bad-rank-pattern-1e18.json": with_(rank_pattern={"conv2": HUGE}),
        "bad-alpha-overflows.json": with_().replace(b'"lora_alpha": 6', b'"lora_alpha": 1e999'),
        "bad-alpha-nan.json": with_().replace(b'"lora_alpha": 6', b'"lora_alpha": NaN'),
        "bad-alpha-negative.json": with_(lora_alpha=-1),
        "bad-dropout-1.json": with_(lora_dropout=1),
        "bad-targets-number.json": with_(target_modules=[1]),
        "bad-expression-none.json": with_(target_modules="(unclosed"),
        "bad-expression-slow.json": with_(target_modules=slow),
        "bad-expression-slow-rank.json": with_(rank_pattern={slow: 2}),
        "bad-expression-slow-alpha.json": with_(alpha_pattern={"([a-z_.0-9]|[a-z])+[!?]": 2}),
        "bad-expression-1001.json": with_(rank_pattern={f"[a-z]{i}": 2 for i in range(1001)}),
        "bad-expression-bytes.json": with_(target_modules=r"\C+"),
        "bad-deep.json": b'{"peft_type":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        "bad-deep-objects.json": b'{"a":' * 1_000,
        "bad-key-twice.json": with_()[:-1] + b',"r":4}',
        "bad-no-utf8.json": with_().replace(b"conv2", b"conv\xff"),
        "bad-list.json": b"[]",
        "bad-pickle.json": dict_of(("a", tensor())),
        "bad-nothing.json": b"",
    }


# --- vocab.json and merges.txt -----------------------------------------------------------------------------------

def tokenizers():
    vocabulary = (GOLDEN / "tokenizer" / "small" / "vocab.json").read_bytes()
    merges = (GOLDEN / "tokenizer" / "small" / "merges.txt").read_bytes()

    def pair(vocab=vocabulary, lines=merges):
        return vocab + b"\0" + lines

    def with_vocabulary(find, put):
        assert find in vocabulary, find
        return pair(vocabulary.replace(find, put, 1))

    def with_token(token, merge):
        return pair(vocabulary.rstrip().rstrip(b"}").rstrip() + b',"' + token + b'":300}', merges + merge + b"\n")

    assert b'"<pad>":1' in vocabulary and len(json.loads(vocabulary)) == 300
    return {
        "ok-small": pair(),
        "ok-windows-lines": pair(lines=merges.replace(b"\n", b"\r\n")),
        "ok-no-version-line": pair(lines=merges.split(b"\n", 1)[1]),
        "ok-madeupword": with_token(b"madeupword0000", b""),
        "bad-no-pad": with_vocabulary(b'"<pad>"', b'"<dap>"'),
        "bad-no-byte": with_vocabulary(b'"!"', b'"!!!"'),
        "bad-id-negative": with_vocabulary(b'"<pad>":1', b'"<pad>":-1'),
        "bad-id-twice": with_vocabulary(b'"<pad>":1', b'"<pad>":0'),
        "bad-id-gap": with_vocabulary(b'"<unk>":3', b'"<unk>":900'),
        "bad-id-1e18": with_vocabulary(b'"<pad>":1', b'"<pad>":1000000000000000000'),
        "bad-id-fraction": with_vocabulary(b'"<pad>":1', b'"<pad>":1.0'),
        "bad-id-overflows": with_vocabulary(b'"<pad>":1', b'"<pad>":1e999'),
        "bad-id-text": with_vocabulary(b'"<pad>":1', b'"<pad>":"1"'),
        "bad-id-null": with_vocabulary(b'"<pad>":1', b'"<pad>":null'),
        "bad-token-twice": with_vocabulary(b'"<pad>":1', b'"<pad>":1,"<pad>":1'),
        "bad-token-no-utf8": with_vocabulary(b'"<unk>"', b'"<un\xff>"'),
        "bad-nested": with_vocabulary(b'"<pad>":1', b'"<pad>":{"x":1}'),
        "bad-deep": pair(b'{"a":' + b"[" * 3_000),
        "bad-list": pair(b"[1,2,3]"),
        "bad-text": pair(b'"<s>"'),
        "bad-empty-object": pair(b"{}"),
        "bad-two-objects": pair(vocabulary + b"{}"),
        "bad-merge-of-three": pair(lines=merges + "Ġ . .\n".encode()),
        "bad-merge-of-one": pair(lines=merges + b"at\n"),
        "bad-merge-unknown": pair(lines=merges + b"zz qq\n"),
        "ok-merge-makes-special": with_token(b"<s", b"< s\n<s >"),
        "bad-merges-cut": pair(lines=b"\n".join(merges.split(b"\n")[:-3]) + b"\n"),
        "bad-merges-none": pair(lines=b""),
        "bad-merges-zeros": pair(lines=bytes(100)),
        "bad-token-unmade": with_token(b"atat", b""),
        "bad-nothing": b"",
    }


# --- cache.json and a shard --------------------------------------------------------------------------------------

def caches():
    index = (GOLDEN / "cache" / "cache.json").read_bytes()
    shard = (GOLDEN / "cache" / "shard-00000.h5").read_bytes()

    def pair(text=index, content=shard):
        return text + b"\0" + content

    def changed(change):
        value = json.loads(index)
        change(value)
        return pair(json.dumps(value).encode())

    def in_shard(key, value):
        return changed(lambda j: j["shards"][0].update({key: value}))

    def in_spec(key, value):
        return changed(lambda j: j["spec"]["preprocess"].update({key: value}))

    return {
        "ok-two-volumes": pair(),
        "patients-wrong": pair(index.replace(b'"patients": ', b'"patients": 1', 1)),
        "bad-shard-cut": pair(content=shard[:-1]),
        "bad-shard-longer": pair(content=shard + b"\0"),
        "bad-shard-none": pair(content=b""),
        "bad-shard-first-byte": pair(content=b"\0" + shard[1:]),
        "bad-offset-negative": in_shard("chunk_offsets", [-1, 4096]),
        "bad-offset-1e18": in_shard("chunk_offsets", [HUGE, HUGE]),
        "bad-offset-63-bits": in_shard("chunk_offsets", [2**63 - 1, 2**63 - 1]),
        "bad-offset-64-bits": in_shard("chunk_offsets", [2**64 - 1, 0]),
        "bad-offset-fraction": in_shard("chunk_offsets", [0.5, 1.5]),
        "bad-offset-overlap": in_shard("chunk_offsets", [4096, 4096]),
        "bad-offsets-many": in_shard("chunk_offsets", list(range(0, 200_000, 8))[:2_000]),
        "bad-file-up": in_shard("file", "../shard-00000.h5"),
        "bad-file-index": in_shard("file", "cache.json"),
        "bad-bytes-1e18": in_shard("bytes", HUGE),
        "bad-facts-hash": in_shard("facts_hash", "zz"),
        "bad-outside-hash": in_shard("outside_hash", "0" * 16),
        "bad-shape-1e18": in_spec("volume_shape", [HUGE, HUGE, HUGE]),
        "bad-shape-overflow": in_spec("volume_shape", [2**21, 2**21, 2**22]),
        "bad-shape-zero": in_spec("volume_shape", [0, 1, 1]),
        "bad-shape-two": in_spec("volume_shape", [4, 3]),
        "bad-spacing-null": in_spec("spacing_mm", [None, 1, 1]),
        "bad-storage": in_spec("storage", "int8"),
        "bad-compression": changed(lambda j: j["spec"].update(compression="gzip")),
        "bad-zstd-without-sizes": changed(lambda j: j["spec"].update(compression="zstd")),
        "bad-no-shards": changed(lambda j: j.pop("shards")),
        "bad-deep": b'{"a":' + b"[" * 3_000,
        "bad-list": b"[]\0",
        "bad-nothing": b"",
    }


# --- NIfTI and gzip ----------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


def nifti(*fields, shape=(4, 3, 2), code=4, order="<", voxels=None, voxel_format="h"):
    """A NIfTI-1 file of int16 voxels 0, 1, 2, ..., 1 mm, with an identity sform; `fields`: (offset, struct format, values...)."""
    header = bytearray(352)

    def put(offset, form, *values):
        struct.pack_into(order + form, header, offset, *values)

    put(0, "i", 348)
    put(40, "4h", 3, *shape)
    put(70, "2h", code, 8 * struct.calcsize(voxel_format))
    put(76, "4f", 1, 1, 1, 1)
    put(108, "3f", 352, 1, 0)
    put(252, "2h", 0, 1)
    for row in range(3):
        put(280 + 20 * row, "f", 1)
    header[344:348] = b"n+1\0"
    for offset, form, *values in fields:
        put(offset, form, *values)
    count = shape[0] * shape[1] * shape[2]
    return bytes(header) + struct.pack(order + f"{count}{voxel_format}", *(range(count) if voxels is None else voxels))


def nifti2(*fields, shape=(4, 3, 2)):
    """The same as NIfTI-2."""
    header = bytearray(544)
    struct.pack_into("<i8s2h", header, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16)
    struct.pack_into("<8q", header, 16, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, *[1] * 8)
    struct.pack_into("<q2d", header, 168, 544, 1, 0)
    struct.pack_into("<2i", header, 344, 0, 1)
    for row in range(3):
        struct.pack_into("<d", header, 400 + 40 * row, 1)
    for offset, form, *values in fields:
        struct.pack_into("<" + form, header, offset, *values)
    count = shape[0] * shape[1] * shape[2]
    return bytes(header) + struct.pack(f"<{count}h", *range(count))


def gz(content, level=9):
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def with_extension(size, *, code=b"\1\0\0\0"):
    plain = nifti((108, "f", 384))
    return plain[:348] + code + struct.pack("<i", size) + bytes(28) + plain[352:]


def nifti_files():
    fine = nifti()
    floats = [1.0] * 24
    golden = {f"ok-{name.split('.')[0]}": (GOLDEN / "nifti" / name).read_bytes()
              for name in ("oblique.nii.gz", "sheared.nii.gz", "nifti2_big_endian.nii", "qform_flipped.nii.gz", "int8_slope.nii.gz")}
    return golden | {
        "ok-plain": fine,
        "ok-compressed": gz(fine),
        "ok-big-endian": nifti(order=">"),
        "ok-version-2": nifti2(),
        "ok-slope-zero": nifti((112, "2f", 0, 5)),
        "ok-slope-nan": nifti((112, "2f", NAN, NAN)),
        "ok-pixdim-negative": nifti((76, "4f", 1, -1, -1, -1)),
        "ok-pixdim-zero": nifti((76, "4f", 1, 0, 0, 0)),
        "ok-codes-unknown": nifti((252, "2h", -7, 99)),
        "ok-text-in-descrip": nifti((148, "80s", b"\xff" * 80)),
        "ok-extension": with_extension(32),
        "ok-fourth-axis-of-1": nifti((40, "5h", 4, 4, 3, 2, 1)),
        "ok-bytes-after": fine + bytes(99),
        # sizes
        "bad-axes-0": nifti((40, "h", 0)),
        "bad-axes-8": nifti((40, "h", 8)),
        "bad-axes-negative": nifti((40, "h", -3)),
        "bad-axes-2": nifti((40, "h", 2)),
        "bad-length-0": nifti((44, "h", 0)),
        "bad-length-negative": nifti((42, "h", -4)),
        "bad-length-least": nifti((46, "h", -32768)),
        "bad-voxels-3e13": nifti((42, "3h", 32767, 32767, 32767)),
        "bad-voxels-too-many": nifti((42, "3h", 256, 256, 2)),
        "bad-voxels-more-than-file": nifti((42, "3h", 40, 40, 40)),
        "bad-time-series": nifti((40, "5h", 4, 4, 3, 2, 5)),
        "bad-time-of-0": nifti((40, "5h", 4, 4, 3, 2, 0)),
        "bad-seven-axes": nifti((40, "8h", 7, 4, 3, 2, 1, 1, 1, 3)),
        "bad-voxels-1e18": nifti2((16, "4q", 3, 10**6, 10**6, 10**6)),
        "bad-voxels-overflow-to-0": nifti2((16, "4q", 3, 2**32, 2**32, 2)),
        "bad-voxels-overflow-to-24": nifti2((16, "4q", 3, 2**61 + 3, 8, 1)),
        "bad-length-63-bits": nifti2((16, "4q", 3, 2**63 - 1, 1, 1)),
        "bad-length-2-negative": nifti2((16, "4q", 3, -4, -3, 2)),
        "bad-axes-1e18": nifti2((16, "q", HUGE)),
        # where the voxels are
        "bad-offset-348": nifti((108, "f", 348)),
        "bad-offset-0": nifti((108, "f", 0)),
        "bad-offset-negative": nifti((108, "f", -352)),
        "bad-offset-fraction": nifti((108, "f", 352.5)),
        "bad-offset-nan": nifti((108, "f", NAN)),
        "bad-offset-infinite": nifti((108, "f", INF)),
        "bad-offset-1e9": nifti((108, "f", 1e9)),
        "bad-offset-3e38": nifti((108, "f", 3e38)),
        "bad-offset-64-bits": nifti2((168, "q", 2**63 - 1)),
        "bad-offset-2-negative": nifti2((168, "q", -1)),
        # what the voxels are
        "bad-type-rgb": nifti(code=128),
        "bad-type-rgba": nifti(code=2304, voxel_format="i"),
        "bad-type-complex": nifti(code=32, voxel_format="q"),
        "bad-type-float128": nifti(code=1536, voxel_format="q"),
        "bad-type-binary": nifti(code=1),
        "bad-type-0": nifti(code=0),
        "bad-type-negative": nifti(code=-4),
        "bad-bits": nifti((72, "h", 8)),
        "bad-bits-0": nifti((72, "h", 0)),
        "bad-voxel-nan": nifti(code=16, voxel_format="f", voxels=floats[:7] + [NAN] + floats[8:]),
        "bad-voxel-infinite": nifti(code=64, voxel_format="d", voxels=[-INF] + floats[1:]),
        "bad-voxel-overflows-float": nifti(code=64, voxel_format="d", voxels=[1e300] + floats[1:]),
        "bad-slope-overflows": nifti((112, "2f", 3e38, 0), voxels=[2000] * 24),
        "bad-intercept-nan": nifti((112, "2f", 1, NAN)),
        "bad-intercept-infinite": nifti((112, "2f", 1, INF)),
        # geometry
        "bad-affine-nan": nifti((280, "f", NAN)),
        "bad-affine-infinite": nifti((292, "f", INF)),
        "bad-affine-zeros": nifti((280, "12f", *[0] * 12), (76, "4f", 1, 1, 1, 1), (254, "h", 1)),
        "ok-sform-flat": nifti((280, "12f", 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0), (254, "h", 2)),
        "ok-sform-3e38": nifti((280, "12f", *[3e38] * 12)),
        "bad-spacing-1e30": nifti((280, "f", 1e30), (80, "f", 1e30)),
        "bad-spacing-1e-30": nifti((280, "f", 1e-30), (80, "f", 1e-30)),
        "bad-quaternion-long": nifti((252, "2h", 1, 0), (256, "3f", 2, 0, 0)),
        "bad-quaternion-nan": nifti((252, "2h", 1, 0), (256, "3f", NAN, 0, 0)),
        "bad-quaternion-offset-infinite": nifti((252, "2h", 1, 0), (268, "3f", INF, 0, 0)),
        "bad-pixdim-nan": nifti((252, "2h", 0, 0), (80, "f", NAN)),
        # not what it says
        "bad-magic": nifti((344, "4s", b"n+9\0")),
        "bad-magic-of-a-pair": nifti((344, "4s", b"ni1\0")),
        "bad-header-size": nifti((0, "i", 349)),
        "bad-header-sizes-mixed": nifti((0, "i", 540)),
        "bad-text-mode": nifti2((8, "4s", b"\n\n\x1a\n")),
        "bad-extension-99999": with_extension(99_999),
        "bad-extension-negative": with_extension(-16),
        "bad-extension-15": with_extension(15),
        "bad-extension-least": with_extension(-2**31),
        "bad-header-alone": fine[:352],
        "bad-header-half": fine[:200],
        "bad-text": b"id,patient_id\n" * 100,
        "bad-zeros": bytes(1000),
        "bad-nothing": b"",
        # compressed
        "bad-gzip-cut": gz(fine)[:-9],
        "bad-gzip-no-sum": gz(fine)[:-4],
        "bad-gzip-sum": gz(fine)[:-8] + bytes(4) + gz(fine)[-4:],
        "bad-gzip-header-alone": gz(fine)[:10],
        "bad-gzip-of-gzip": gz(gz(fine)),
        "bad-gzip-of-nothing": gz(b""),
        "bad-bomb": gz(nifti((42, "3h", 32, 32, 32))[:352] + bytes(80 << 20)),
        "bad-bomb-that-lacks": gz(nifti((42, "3h", 40, 40, 40))),
    }


def wanted(count, file):
    return struct.pack("<I", count) + file


def gzip_files():
    content = bytes(range(256)) * 40
    packed = gz(content)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = raw.compress(content) + raw.flush()
    named = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\3\0abcname\0comment\0"
    named += struct.pack("<H", zlib.crc32(named) & 0xFFFF) + packed[10:]
    return {
        "ok-whole": wanted(len(content), packed),
        "ok-part": wanted(100, packed),
        "ok-stored": wanted(len(content), gz(content, 0)),
        "ok-two-members": wanted(len(content) + 300, packed + gz(content[:300])),
        "ok-empty-members": wanted(len(content), gz(b"") + packed + gz(b"")),
        "ok-padded": wanted(len(content), packed + bytes(100)),
        "ok-all-fields": wanted(len(content), named),
        "bad-one-more": wanted(len(content) + 1, packed),
        "bad-mebibyte-of-little": wanted(1 << 20, gz(b"a")),
        "bad-cut": wanted(len(content), packed[:-1]),
        "bad-sum": wanted(len(content), packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]),
        "bad-length": wanted(len(content), packed[:-1] + b"\7"),
        "bad-method": wanted(100, packed[:2] + b"\7" + packed[3:]),
        "bad-flags": wanted(100, packed[:3] + b"\xe0" + packed[4:]),
        "bad-extra-beyond": wanted(100, packed[:3] + b"\4" + packed[4:10] + b"\xff\xff"),
        "bad-name-open": wanted(100, packed[:3] + b"\x08" + packed[4:10] + b"name"),
        "bad-raw": wanted(100, deflated),
        "bad-zlib": wanted(100, zlib.compress(content)),
        "bad-block-type": wanted(100, packed[:10] + b"\7" + packed[11:]),
        "bad-stored-lengths": wanted(100, packed[:10] + b"\1\4\0\4\0abcd"),
        "bad-distance-beyond": wanted(100, packed[:10] + bytes([0x4B, 0x04, 0x83, 0x02, 0x00]) + packed[-8:]),
        "bad-bomb": wanted(1000, gz(bytes(70 << 20))),
        "bad-nothing": b"",
    }


def with_damage(files, valid):
    """Adds cuts of one valid file and copies of it with one byte changed."""
    content = files[valid]
    draw = random.Random(2026)
    for part in CUTS:
        files[f"cut-{int(100 * part):02d}-{valid}"] = content[:int(len(content) * part)]
    for i in range(3):
        at = draw.randrange(len(content))
        files[f"changed-{i}-{valid}"] = content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1:]
    return files


# --- tables ------------------------------------------------------------------------------------------------------

HEADER = b"id,patient_id,site,split,image,report,label:hcc\n"
ROW = b"a,p,s,train,a.nii,r,1\n"


def csv_files():
    corrected = HEADER[:-1] + b",report_group,hu_slope,spacing_z_mm\n"
    return {
        "ok-manifest": HEADER + ROW + b'b,q,s,test,b.nii,"say ""no"", then\nstop",\n',
        "ok-byte-order-mark": b"\xef\xbb\xbf" + HEADER + ROW,
        "ok-line-ends": (HEADER + ROW).replace(b"\n", b"\r\n") + b"\r\n\r\n",
        "ok-corrected": corrected + ROW[:-1] + b",g,2,1.25\n" + b"b,p,s,train,b.nii,r,1,g,,\n",
        "ok-long-report": HEADER + b'a,p,s,train,a.nii,"' + b"word " * 2000 + b'",1\n',
        "bad-nothing": b"",
        "bad-header-alone": HEADER,
        "bad-utf-16": b"\xff\xfe" + (HEADER + ROW).decode().encode("utf-16-le"),
        "bad-utf-16-big": b"\xfe\xff" + (HEADER + ROW).decode().encode("utf-16-be"),
        "bad-latin-1": HEADER + b"a,p,s,train,a.nii,caf\xe9,1\n",
        "bad-zero-byte": HEADER + b"a,p,s,train,a.nii,r\0,1\n",
        "bad-quote-open": HEADER + b'a,p,s,train,a.nii,"r,1\n',
        "bad-quote-inside": HEADER + b'a,p,s,train,a.nii,"r"r,1\n',
        "bad-semicolons": (HEADER + ROW).replace(b",", b";"),
        "bad-too-few": HEADER + b"a,p,s\n",
        "bad-too-many": HEADER + ROW[:-1] + b",x\n",
        "bad-label": HEADER + b"a,p,s,train,a.nii,r,7\n",
        "bad-id-twice": HEADER + ROW + b"a,q,s,train,b.nii,r,1\n",
        "bad-column-twice": b"id,id," + HEADER + ROW,
        "bad-patient-in-two-splits": HEADER + ROW + b"b,p,s,test,b.nii,r,1\n",
        "bad-group-in-two-splits": corrected + ROW[:-1] + b",g,,\n" + b"b,q,s,test,b.nii,r,1,g,,\n",
        "bad-slope-0": corrected + ROW[:-1] + b",,0,\n",
        "bad-spacing-nan": corrected + ROW[:-1] + b",,,nan\n",
        "bad-spacing-text": corrected + ROW[:-1] + b",,,1 mm\n",
        "bad-id-empty": HEADER + b",p,s,train,a.nii,r,1\n",
    }


SHEET_NAMES = {
    "xl/workbook.xml": '<workbook xmlns:r="r"><sheets><sheet name="a" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="r1" Target="worksheets/sheet1.xml"/></Relationships>',
    "xl/sharedStrings.xml": "<sst><si><t>study id</t></si><si><r><t>two </t></r><r><t>runs</t></r></si></sst>",
}


def workbook(rows, changes=None, **kinds):
    parts = {**SHEET_NAMES, "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>", **(changes or {})}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            if text is not None:
                file.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def xlsx_files():
    row = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="inlineStr"><is><t>x_x000D_y</t></is></c></row>'
    fine = workbook(row)
    long_text = "w" * 3000
    many = "<row>" + f'<c t="inlineStr"><is><t>{long_text}</t></is></c>' + "</row>"
    golden = {f"ok-{name}": (GOLDEN / "tables" / f"{name}.xlsx").read_bytes() for name in ("reports_final", "inline")}
    sizes = fine.rfind(b"PK\x01\x02")
    encrypted = bytearray(fine)
    for at in (i for i in range(len(fine) - 4) if fine[i:i + 4] == b"PK\x03\x04"):
        encrypted[at + 6] |= 1
    for at in (i for i in range(len(fine) - 4) if fine[i:i + 4] == b"PK\x01\x02"):
        encrypted[at + 8] |= 1
    return golden | {
        "ok-plain": fine,
        "ok-no-references": workbook('<row><c><v>1</v></c><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c></row>'),
        "ok-rows-far-apart": workbook(row + '<row r="1048576"><c r="A1048576"><v>2</v></c></row>'),
        "ok-absolute-target": workbook(row, {"xl/_rels/workbook.xml.rels":
                                             '<Relationships><Relationship Id="r1" Target="/xl/worksheets/sheet1.xml"/></Relationships>'}),
        "ok-no-strings": workbook('<row><c><v>1</v></c></row>', {"xl/sharedStrings.xml": None}),
        "bad-nothing": b"",
        "bad-text": b"study id,Findings\n1,2\n",
        "bad-zip-of-something": workbook("", {name: None for name in SHEET_NAMES}),
        "bad-no-sheet": workbook(row, {"xl/workbook.xml": "<workbook><sheets/></workbook>"}),
        "bad-sheet-elsewhere": workbook(row, {"xl/_rels/workbook.xml.rels": "<Relationships/>"}),
        "bad-target-outside": workbook(row, {"xl/_rels/workbook.xml.rels":
                                             '<Relationships><Relationship Id="r1" Target="../../etc/passwd"/></Relationships>'}),
        "bad-xml": workbook("<row><c>"),
        "bad-xml-not-text": workbook(row, {"xl/sharedStrings.xml": bytes(range(256))}),
        "bad-string-index": workbook('<row><c t="s"><v>2</v></c></row>'),
        "bad-string-index-negative": workbook('<row><c t="s"><v>-1</v></c></row>'),
        "bad-string-index-text": workbook('<row><c t="s"><v>0x0</v></c></row>'),
        "bad-column-far": workbook('<row r="1"><c r="XFE1"><v>1</v></c></row>'),
        "bad-column-overflow": workbook(f'<row r="1"><c r="{"Z" * 40}1"><v>1</v></c></row>'),
        "bad-reference": workbook('<row r="1"><c r="11"><v>1</v></c></row>'),
        "bad-row-0": workbook('<row r="0"><c r="A1"><v>1</v></c></row>'),
        "bad-row-far": workbook('<row r="1048577"><c><v>1</v></c></row>'),
        "bad-row-text": workbook('<row r="one"><c><v>1</v></c></row>'),
        "bad-cells": workbook('<row><c r="XFD1"><v>1</v></c></row>' * 20),
        "bad-text-too-long": workbook(many * 360),
        "bad-text-by-reference": workbook('<row><c t="s"><v>0</v></c></row>' * 400,
                                          {"xl/sharedStrings.xml": f"<sst><si><t>{long_text}</t></si></sst>"}),
        "bad-bomb": workbook(" " * (4 << 20)),
        "bad-size-lie": fine[:sizes + 24] + struct.pack("<I", 10) + fine[sizes + 28:],
        "bad-encrypted": bytes(encrypted),
        "bad-cut": fine[:-30],
        "bad-deep": workbook("<row>" * 3000),
        "ok-deep-and-closed": workbook("<row>" * 40_000 + "</row>" * 40_000 + row),
    }


# --- DICOM -------------------------------------------------------------------------------------------------------

def dicom_pairs():
    def pair(folder):
        first, second = sorted((GOLDEN / "dicom" / folder).iterdir())[1:3] if "/" in folder else sorted((GOLDEN / "dicom" / folder).iterdir())[:2]
        return struct.pack("<I", first.stat().st_size) + first.read_bytes() + second.read_bytes()

    hostile = sorted(json.loads((GOLDEN / "dicom" / "hostile.json").read_text()))
    whole = {"missing", "moved", "one_slice", "uneven"}  # what two slices cannot show
    return ({f"bad-{name}": pair(f"hostile/{name}") for name in hostile if name not in whole}
            | {"ok-two_slices": pair("two_slices"), "bad-nothing": struct.pack("<I", 0), "bad-one": struct.pack("<I", 1 << 30) + pair("two_slices")[4:]})


def main():
    corpora = {
        "safetensors": with_damage(safetensors_files(), "ok-every-dtype"),
        "torch_file": with_damage(torch_files(), "ok-ordered_dict.pt"),
        "torch_pickle": with_damage(pickles(), "ok-parameter"),
        "adapter_config": with_damage(adapter_configs(), "ok-patterns.json"),
        "tokenizer": with_damage(tokenizers(), "ok-small"),
        "cache": with_damage(caches(), "ok-two-volumes"),
        "nifti": with_damage(nifti_files(), "ok-plain"),
        "gzip": with_damage(gzip_files(), "ok-whole"),
        "csv": with_damage(csv_files(), "ok-manifest"),
        "dicom": with_damage(dicom_pairs(), "ok-two_slices"),
        "xlsx": with_damage(xlsx_files(), "ok-reports_final"),
    }
    total = 0
    for target, files in corpora.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):  # what a fuzzer found stays
                old.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        size = sum(map(len, files.values()))
        total += size
        print(f"{target}: {len(files)} files, {size} bytes")
    print(f"in all {total} bytes")


if __name__ == "__main__":
    main()
