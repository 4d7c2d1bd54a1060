# SPDX-License-Identifier: Apache-2.0
"""Writes lower_case_table.cpp: what str.lower() does to each character, as ranges.

Run by hand when the Unicode version moves: python3 generate_lower_case_table.py > lower_case_table.cpp
Which characters a final sigma looks at (Cased, Case_Ignorable) is found by asking str.lower() itself.
"""

import sys
import unicodedata

SIGMA, FINAL = "\u03a3", "\u03c2"


def codes():
    return (c for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF)


def mapping_ranges():
    """(first, last, step, shift): every step-th character from first to last moves by shift."""
    ranges = []
    for code in codes():
        lower = chr(code).lower()
        if lower == chr(code) or len(lower) > 1 or code == 0x3A3:
            continue
        shift = ord(lower) - code
        if ranges:
            first, last, step, old = ranges[-1]
            gap = code - last
            if old == shift and gap in (1, 2) and (first == last or step == gap):
                ranges[-1] = (first, code, gap, shift)
                continue
        ranges.append((code, code, 1, shift))
    return ranges


def set_ranges(holds):
    ranges = []
    for code in codes():
        if not holds(chr(code)):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def is_ignorable(c):
    """A sigma after 'A' and c is final, and still is when c follows it: c is looked through."""
    return ("A" + c + SIGMA).lower().endswith(FINAL) and ("A" + SIGMA + c + "A").lower()[1] != FINAL and (
        "A" + SIGMA + c).lower()[1] == FINAL and (" " + c + SIGMA).lower()[-1] != FINAL


def is_cased(c):
    return (c + SIGMA).lower().endswith(FINAL)


def table(name, kind, rows):
    cells = ["{" + ", ".join(str(v) for v in row) + "}" for row in rows]
    lines, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 100:
            lines.append(line)
            line = "   "
        line += " " + cell + ","
    lines.append(line.rstrip(","))
    body = "\n".join(lines)
    return (f"const std::array<{kind}, {len(rows)}> {name}Rows{{{{\n{body}}}}};\n")


def main():
    longer = [c for c in codes() if len(chr(c).lower()) > 1]
    assert longer == [0x130], longer
    print("// SPDX-License-Identifier: Apache-2.0")
    print(f"// Written by generate_lower_case_table.py from Unicode {unicodedata.unidata_version}. Not for editing.")
    print('// clang-format off\n#include "data/lower_case_table.hpp"\n\n#include <array>\n')
    print("namespace triphase::data {\nnamespace {\n")
    print(table("kLower", "LowerRange", mapping_ranges()))
    print(table("kCased", "CodeRange", set_ranges(is_cased)))
    print(table("kIgnorable", "CodeRange", set_ranges(is_ignorable)))
    print("}  // namespace\n")
    print("std::span<const LowerRange> lower_ranges() { return kLowerRows; }")
    print("std::span<const CodeRange> cased_ranges() { return kCasedRows; }")
    print("std::span<const CodeRange> case_ignorable_ranges() { return kIgnorableRows; }\n")
    print("}  // namespace triphase::data")


if __name__ == "__main__":
    main()
