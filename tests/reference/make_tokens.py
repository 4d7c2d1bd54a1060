# SPDX-License-Identifier: Apache-2.0
"""Tokenizer on more than 5,000 strings, kept as hashes.

Writes tokenizer/many.json: the strings (a text and how often it is repeated), the xxh3 of each one prepared both ways
(nltk's WordPunct of the lower-cased text; lower-casing alone), and the xxh3 of the ids (little-endian int32, both specials, not
cut) of the text as given and of the sanitised text under the small vocabulary; and, when --roberta names a folder with
RoBERTa's vocab.json and merges.txt, tokenizer/many_roberta.json: the ids' hashes under that vocabulary, by transformers'
RobertaTokenizer with split_special_tokens=True. Special tokens stand in the texts: they are text like any other there.
Strings keep to characters assigned in Unicode 14, so that any recent Unicode table classes them alike.
"""

import argparse
import pathlib
import random
import unicodedata

import numpy
import xxhash
from transformers import RobertaTokenizer

from golden_io import GOLDEN_FOLDER, record, save_json
from make_tokenizer import (CONTRACTIONS, EMOJI, MARKS, REPORTS, SHAPES, SPACES, WORDS, byte_level, ids_of,
                            sanitize_report)

PACKAGES = ["tokenizers", "transformers", "nltk", "xxhash"]
NO_LIMIT = 1 << 30

# Special tokens and what resembles them, bare, within words and within sentences.
SPECIAL_TEXTS = ["</s>", "<s>", "<pad>", "<unk>", "<mask>", "</s></s>", "<s></s>", " </s>", "</s> ", "a</s>b", "a </s> b",
                 "No lesion.</s>", "No lesion. </s> Mass in segment IV.", "<mask> lesion", "the <mask> is", "<MASK> </S>",
                 "<s>ignore the report</s>", "<pad><pad><pad>", "< s >", "</ s>", "<|endoftext|>", "\u2581<s>", "<s", "s>"]

SITES = ["liver", "spleen", "left kidney", "pancreas", "gallbladder", "portal vein", "segment VIII", "adrenal gland",
         "hepatic dome", "aorta", "small bowel", "right lower lobe", "L1 vertebral body", "porta hepatis"]
FINDINGS = ["hypodense lesion", "arterially enhancing mass", "cyst", "calcified granuloma", "hydronephrosis", "steatosis",
            "thrombosis", "hemangioma", "washout", "capsule appearance", "wall thickening", "LI-RADS 5 observation",
            "hepatocellular carcinoma", "atelectasis", "lymphadenopathy", "cholelithiasis"]
FRAMES = ["{s}: {n} x {m} cm {f}, {t}.", "There is a {n} mm {f} in the {s} ({t}).", "No {f} of the {s}; {t}.",
          "IMPRESSION: {k}. {f} in {s}, {t}?", "{s} demonstrates {f} - {t}, HU {n}->{m}.", "{f} @ {s}: {n}\u00b1{m} HU, {t}",
          "Patient's {s} isn't normal: {f}/{t}.", "{s}\t{f}\n{t} ~{n}%", "{k}) {s}; {k}) {f};\r\n{t}..."]
TAILS = ["unchanged since 01/02/2020", "suspicious for malignancy", "likely benign", "new", "s/p TACE", "not further evaluated",
         "cf. series 4, image 112", "compared with prior CT", "stable", "too small to characterize"]


def characters_by_category():
    """Every assigned character but surrogates and private use beyond a few, by general category."""
    found = {}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category not in ("Cs", "Cn"):
            found.setdefault(category, []).append(chr(code))
    return found


def report_of(source):
    values = {"s": source.choice(SITES), "f": source.choice(FINDINGS), "t": source.choice(TAILS), "k": source.randint(1, 9),
              "n": f"{source.uniform(0.1, 99):.1f}", "m": str(source.randint(1, 400))}
    sentences = [source.choice(FRAMES).format(**values)]
    text = source.choice(["", " "]).join(sentences)
    return text.upper() if source.random() < 0.1 else text[0].upper() + text[1:]


def all_strings():
    """(text, repeats) of every case."""
    source = random.Random(57)
    strings = REPORTS + WORDS + EMOJI + MARKS + CONTRACTIONS + SHAPES + SPECIAL_TEXTS
    strings += [report_of(source) for _ in range(1500)]
    strings += [" ".join(report_of(source) for _ in range(3)) for _ in range(100)]
    by_category = characters_by_category()
    for category in sorted(by_category):
        some = lambda: source.choice(by_category[category])
        for _ in range(70):
            strings.append(f"{some()}a{some()} {some()}7{some()}{some()}. {some()}")
    controls = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]]
    strings += [c for c in controls] + [f"a{c}b" for c in controls] + [f"1 {c}{c} x{c}" for c in controls]
    strings += [f"{s}{t}" for s in SPACES for t in "a1.'"] + [f"a{s}{t}b" for s in SPACES for t in SPACES]
    emoji = [chr(code) for code in range(0x1F300, 0x1FAF7) if unicodedata.category(chr(code)) == "So"]
    for _ in range(300):
        parts = [source.choice(emoji) + source.choice(["", "\ufe0f", "\u200d" + source.choice(emoji), "\U0001f3fd", " ok"])
                 for _ in range(source.randint(1, 3))]
        strings.append(source.choice(["", "lesion ", "."]).join(parts))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    alphabets = [letters + "    ", letters + "0123456789 .,-", " \t\n'stremvld", "\u00e0\u00e9\u00ef\u00f5\u00fc \u0391\u03a3\u03c3\u0416'\u0307.",
                 "".join(by_category["Mn"][:60]) + letters, "'\u2019`\"()[] aZ9_", letters + SPACES, "<>/s|pad mask",
                 "a\u00b11 \u2264.", "\u809d\u81d3 a1.\u3000"]
    for number in range(1100):
        alphabet = alphabets[number % len(alphabets)]
        strings.append("".join(source.choice(alphabet) for _ in range(source.randint(1, 40))))
    cases = [(text, 1) for text in dict.fromkeys(strings)]
    # Lines of 100 kB and more.
    long = [("liver ", 17000), ("a", 100000), (" ", 100000), ("\n", 100000), (".", 100000), ("7", 100000), ("ab ", 34000),
            ("\u00e9", 50000), ("\u809d", 34000), ("\u00b1 1.", 25000), (" \u00a0", 34000), ("'s", 50000), ("</s>", 25000),
            ("\u03a3", 50000), ("\U0001f600", 25000), ("hepatocellular", 7200), ("a\u0301", 34000), ("x" * 65 + " ", 1600)]
    return cases + long + [(report + " ", 100000 // len(report.encode())) for report in REPORTS[:8]]


def digest(data):
    return xxhash.xxh3_64(data).hexdigest()


def text_digest(text):
    return digest(text.encode())


def ids_digest(ids):
    return digest(numpy.array(ids, dtype="<i4").tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--roberta", type=pathlib.Path, help="folder with RoBERTa's vocab.json and merges.txt")
    arguments = parser.parse_args()
    cases = all_strings()
    texts = [text * repeats for text, repeats in cases]
    assert len(texts) >= 5000, len(texts)
    sanitized = [sanitize_report(text) for text in texts]
    about = record(__file__, PACKAGES, {
        "cases": "[text, repeats]", "hashes": "xxh3 of 64 bits, one after the other, 16 digits each",
        "ids": "of the text", "ids_sanitized": "of the sanitised text", "python_unicode": unicodedata.unidata_version})
    small = byte_level(GOLDEN_FOLDER / "tokenizer" / "small")
    save_json("tokenizer/many", {
        "about": about, "cases": [[t, n] if n > 1 else t for t, n in cases],
        "sanitized": "".join(map(text_digest, sanitized)), "lower": "".join(text_digest(t.lower()) for t in texts),
        "ids": "".join(ids_digest(ids_of(small, t, NO_LIMIT)) for t in texts),
        "ids_sanitized": "".join(ids_digest(ids_of(small, t, NO_LIMIT)) for t in sanitized)}, indent=None)
    if arguments.roberta:
        whole = RobertaTokenizer.from_pretrained(str(arguments.roberta), split_special_tokens=True)
        assert 2 not in whole("a </s> b", add_special_tokens=False)["input_ids"]
        ids = lambda t: ids_digest(whole(t, truncation=False)["input_ids"])
        save_json("tokenizer/many_roberta", {"about": about, "ids": "".join(map(ids, texts)),
                                             "ids_sanitized": "".join(map(ids, sanitized))}, indent=None)


if __name__ == "__main__":
    main()
