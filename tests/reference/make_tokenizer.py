# SPDX-License-Identifier: Apache-2.0
"""Tokenizer: sanitised texts and token ids of some 300 strings.

Writes tokenizer/small/{vocab.json,merges.txt} (300 byte-level BPE tokens learnt here), tokenizer/small.json (every
string: text, sanitised text, ids under the small vocabulary) and, when --roberta names a folder with RoBERTa's
vocab.json and merges.txt, tokenizer/roberta.json (the same strings under that vocabulary).
The strings keep to Unicode 14, so that any recent Unicode table classes their characters alike, and hold no literal
special token: transformers would turn "</s>" inside a text into id 2, which sanitising makes impossible.
"""

import argparse
import pathlib
import random
import sys
import unicodedata

from nltk.tokenize import wordpunct_tokenize
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import RobertaTokenizer

from golden_io import GOLDEN_FOLDER, record, save_json_cases

PACKAGES = ["tokenizers", "transformers", "nltk"]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]

REPORTS = """\
The liver is normal in size and attenuation. No focal hepatic lesion.
Arterially enhancing 2.3 x 1.9 cm lesion in segment VIII with washout on the portal venous phase (LI-RADS 5).
No intra-abdominal free air; no ascites.
Mild hepatic steatosis. Spleen: 14.2 cm, mildly enlarged.
liver and biliary tree : normal .
Gallbladder surgically absent. Common bile duct measures 7mm.
Kidneys enhance symmetrically, without hydronephrosis or stones.
Status-post TIPS; patent with velocities of 90-120 cm/s.
IMPRESSION: 1. Hepatocellular carcinoma, segment 6. 2. Portal vein thrombosis?
Lungs: bibasilar atelectasis; trace left pleural effusion...
Nodular contour of the liver, consistent w/ cirrhosis.
Aorta: 3.1cm infrarenal aneurysm, unchanged since 01/02/2020.
Bowel loops aren't dilated. There's no obstruction.
Patient's prior exam wasn't available; we'll compare when it's here, they've said I'd see it, you're sure I'm late.
HEPATOCELLULAR CARCINOMA IS PRESENT
no evidence of metastatic disease
~5 cm mass (>50% necrotic) @ dome; HU 45->110->80.
Attenuation 40\u00b15 HU, \u2264 1 cm cysts, \u00b5g/dL 3.5\u00d710\u00b3.
Pancreas -- atrophic -- with a 4-mm side-branch IPMN.
C:\\path\\to\\report_final_v2.txt & <html> [x] {y} | `code` $3.88 #7 ^_^ ~!""".split("\n")

WORDS = """Fractur\u00e9 na\u00efve caf\u00e9 \u00dcbersicht \u0130stanbul DI\u011eER \u00df\u1e9e \u00c5ngstr\u00f6m \u039f\u0394\u039f\u03a3
\u03a3\u03a3\u03a3 \u0396\u03a5\u0393\u039f\u03a3. \u041f\u0415\u0427\u0415\u041d\u042c \u809d\u7d30\u80de\u764c \u809d\u81d3\u306e\u8155\u75c5 \u30ac\u30f3 \uac04\uc138\ud3ec\uc554
\u0643\u0628\u062f \u05db\u05d1\u05d3 \u0e15\u0e31\u0e1a \u092f\u0915\u0943\u0924 \u0baa\u0bbf \u10d0\u10d1 \u1c90\u1c91 \u13a0\uab70 \u0531\u0587 \u01c5\u01c8 \ufb01\ufb02
\u2160\u2167\u00bd\u00b2\u2079 \u0663\u0664 \u0967\u0968 \U0001d7d8\U0001d49c \u24b6\u24d0 \u2124 \u212b\u212a \u017fS \U00010400\U00010428 \ua7ae""".split()

SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680\u180e\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"

EMOJI = ["\U0001f600", "\U0001f9d1\u200d\u2695\ufe0f", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f ok", "1\ufe0f\u20e3",
         "scan \U0001f44d\U0001f3fd done", "\U0001fac1\U0001fac0"]

MARKS = ["e\u0301", "e\u0301galite\u0301", "n\u0303o", "a\u0308\u0304b", "Zalgo\u0335\u0322\u031b", "\u0301lone",
         "\u0915\u094d\u0937", "I\u0307 i\u0307", "\u1e9b\u0323", "\uac00\u1100\u1161"]

CONTRACTIONS = ["'s", "it's", "IT'S", "don't can't", "we're they've I'm she'll he'd", "'tis 'twas", "o'clock 'em",
                "''s''t", "it 's", "it' s", "it\u2019s", "'S 'T 'RE 'VE 'M 'LL 'D", "x'll'd've", "_'s_", "5's 10's"]

SHAPES = ["", " ", "  ", "   a", "a   ", "a  b", "a   b    c", "\n", "\n\n", "a\nb", "a\n\nb", "a \n b", "a\t\tb", "\ta",
          "a\r\nb\r\n", " leading", "trailing ", "a" * 40, "ab" * 30, "-" * 33, "." * 17, "1" * 25, "0.1.2.3", "a_b__c_",
          "___", "snake_case_name", "x1y2z3", "1a2b", "A1 B-2 C/3", "Hello world", " Hello world", "Hello  world",
          "\0", "a\0b", "\x01\x7f\x80\x9f", "\ud7ff\ue000", "\ufffd", "\U0010fffd", "a\u00adb", "\u200d", "\u202eabc"]


def seeded_strings():
    """Strings drawn from mixed alphabets, and one per general category."""
    source = random.Random(31)
    by_category = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category not in ("Cs", "Cn"):
            by_category.setdefault(category, []).append(chr(code))
    strings = []
    for category in sorted(by_category):
        for _ in range(2):
            some = [source.choice(by_category[category]) for _ in range(4)]
            strings.append(f"{some[0]}a{some[1]} {some[2]}7{some[3]}")
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    alphabets = [letters + "    ", letters + "0123456789 .,-", " \t\n'stremvld", "\u00e0\u00e9\u00ef\u00f5\u00fc \u0391\u03a3\u03c3\u0416",
                 "".join(by_category["Mn"][:60]) + letters, "'\u2019`\"()[] aZ9_", letters + SPACES]
    for number in range(70):
        alphabet = alphabets[number % len(alphabets)]
        strings.append("".join(source.choice(alphabet) for _ in range(source.randint(1, 40))))
    return strings


def all_strings():
    strings = REPORTS + [" ".join(REPORTS[i:i + 3]) for i in range(0, 18, 3)] + WORDS + EMOJI + MARKS + CONTRACTIONS + SHAPES
    strings += [f"a{space}b" for space in SPACES] + [f"{space} {space}x{space}" for space in SPACES]
    strings += seeded_strings()
    # Cut at 1024: by one too many, at exactly 1022 pieces, and far beyond.
    strings += ["liver " * 1021 + "liver", "liver " * 1022 + "liver", " ".join(REPORTS * 3)]
    unique = list(dict.fromkeys(strings))
    for string in unique:
        string.encode("utf-8")
        assert not any(special in string for special in SPECIALS + ["<mask>"])
    return unique


def sanitize_report(report):
    """As Merlin's build.py has it."""
    return " ".join(wordpunct_tokenize(report.lower()))


def byte_level(folder):
    """A tokenizer from vocab.json and merges.txt, with <s> and </s> around each text."""
    tokenizer = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    end, start = ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer._tokenizer.post_processor = RobertaProcessing(end, start, trim_offsets=True, add_prefix_space=False)
    return tokenizer


def ids_of(tokenizer, text, max_tokens):
    """Ids with both specials, cut to max_tokens."""
    tokenizer.enable_truncation(max_tokens)
    return tokenizer.encode(text).ids


def train_small(folder):
    """300 tokens: four specials, 256 bytes, forty merges."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([sanitize_report(r) for r in REPORTS], vocab_size=300, min_frequency=2,
                                  special_tokens=SPECIALS, show_progress=False)
    tokenizer.save_model(str(folder))


def cases_of(tokenizer, strings):
    cases = []
    for text in strings:
        sanitized = sanitize_report(text)
        case = {"text": text, "sanitized": sanitized, "ids": ids_of(tokenizer, text, 1024),
                "ids_16": ids_of(tokenizer, text, 16), "ids_sanitized": ids_of(tokenizer, sanitized, 1024)}
        assert case["ids_16"] == (case["ids"] if len(case["ids"]) <= 16 else case["ids"][:15] + [2])
        cases.append(case)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--roberta", type=pathlib.Path, help="folder with RoBERTa's vocab.json and merges.txt")
    arguments = parser.parse_args()
    strings = all_strings()
    about = record(__file__, PACKAGES, {
        "ids": "of text as given, with <s> and </s>, cut to 1024", "ids_16": "of text, cut to 16",
        "ids_sanitized": "of sanitized, cut to 1024", "python_unicode": unicodedata.unidata_version})
    train_small(GOLDEN_FOLDER / "tokenizer" / "small")
    # Under 300 tokens the longest texts take thousands of numbers and show nothing new.
    short = [s for s in strings if len(s) < 400] + ["liver " * 400]
    save_json_cases("tokenizer/small", about, cases_of(byte_level(GOLDEN_FOLDER / "tokenizer" / "small"), short))
    if arguments.roberta:
        tokenizer = byte_level(arguments.roberta)
        cases = cases_of(tokenizer, strings)
        whole = RobertaTokenizer.from_pretrained(str(arguments.roberta))
        for case in cases:
            assert whole(case["text"], truncation=True, max_length=1024)["input_ids"] == case["ids"], case["text"]
        assert ids_of(tokenizer, "Hello world", 1024) == [0, 31414, 232, 2]
        assert ids_of(tokenizer, " Hello world", 1024) == [0, 20920, 232, 2]
        save_json_cases("tokenizer/roberta", about, cases)


if __name__ == "__main__":
    main()
