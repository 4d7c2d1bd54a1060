# SPDX-License-Identifier: Apache-2.0
"""Compares Triphase's tokenizer with the Rust package `tokenizers` (and its text preparation with nltk) on one core.

    tests/bench/tokenizer/compare.py --tokenizer FOLDER [--repeats 7] [--reports 5000] [--build build/release]

FOLDER holds vocab.json and merges.txt. Run it with a Python that has tests/reference/requirements.txt, on an idle machine; needs
the target bench_tokenizer. Both sides take turns, pinned to the same core; each repeat is the median of three passes after a
warm one. Rust is measured in its quickest way, encode_batch_fast without threads, without the cost of making Python lists.
Ids are compared. Printed are medians and ratios; nothing is asserted.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests/reference"))

import numpy
import xxhash

from make_tokenizer import byte_level, sanitize_report
from make_tokens import report_of

PASSES = 3


def theirs(tokenizer, texts):
    """Median seconds of nltk's preparation and of Rust's encoding, and the ids."""
    prepare, encode = [], []
    for number in range(PASSES + 1):
        begin = time.perf_counter()
        prepared = [sanitize_report(text) for text in texts]
        middle = time.perf_counter()
        encodings = tokenizer._tokenizer.encode_batch_fast(prepared)
        end = time.perf_counter()
        if number > 0:
            prepare.append(middle - begin)
            encode.append(end - middle)
    return statistics.median(prepare), statistics.median(encode), encodings


def ours(program, folder, file):
    text = subprocess.run([program, folder, file, str(PASSES)], check=True, capture_output=True, text=True).stdout
    figures = json.loads(text)
    return statistics.median(figures["prepare_seconds"]), statistics.median(figures["encode_seconds"]), figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--reports", type=int, default=5000)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the other program inherits it

    source = random.Random(3)
    texts = [" ".join(report_of(source) for _ in range(source.randint(8, 30))).replace("\n", " ").replace("\r", " ")
             for _ in range(arguments.reports)]
    tokenizer = byte_level(arguments.tokenizer)
    rows = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(texts))
        file.flush()
        for _ in range(arguments.repeats):
            rows.append((theirs(tokenizer, texts), ours(arguments.build / "bin/bench_tokenizer", arguments.tokenizer, file.name)))
    ids = xxhash.xxh3_64()
    for encoding in rows[0][0][2]:
        ids.update(numpy.array(encoding.ids, dtype="<i8").tobytes())
    same = ids.hexdigest() == rows[0][1][2]["ids_hash"]
    size = sum(len(text.encode()) for text in texts) / 1e6
    tokens = rows[0][1][2]["tokens"]
    print(f"{len(texts)} reports, {size:.1f} MB, {tokens} tokens; ids {'equal' if same else 'DIFFER'}")
    print(f"{'':24}{'Python/Rust':>14}{'Triphase':>14}{'ratio':>8}   MB/s theirs, ours; ratio by repeat")
    for name, pick in [("encode", lambda r: r[1]), ("prepare", lambda r: r[0]), ("prepare and encode", lambda r: r[0] + r[1])]:
        pairs = [(pick(a), pick(b)) for a, b in rows]
        a, b = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratios = sorted(p[0] / p[1] for p in pairs)
        print(f"{name:24}{a * 1e3:11.1f} ms{b * 1e3:11.1f} ms{a / b:8.2f}   {size / a:.1f}, {size / b:.1f}; "
              f"{ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
