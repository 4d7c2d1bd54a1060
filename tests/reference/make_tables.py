# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/tables/: workbooks that openpyxl wrote, and beside each what openpyxl reads in it, cell by cell as text."""

import datetime
import json
from pathlib import Path

import openpyxl
from golden_io import GOLDEN_FOLDER as GOLDEN
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

REPORTS = [
    ("study id", "Findings", "Split", "Few Shot", "Patient Name"),
    ("AC001", "Liver: 3 cm lesion,\nsegment \"VII\".\n\nIMPRESSION: Suspicious for HCC.", "train", 1, "PLANTED^ROSA"),
    ("AC002", "Normal liver. Impression: No acute finding.", "val", None, "PLANTED^ROSA"),
    ("AC003", "Größe der Leber normal – keine Läsion. 肝臓", "test", None, "PLANTED^ROSA"),
    ("AC001", "A second report of the same study.", "train", None, "PLANTED^ROSA"),
    ("AC004", "   ", "train", None, "PLANTED^ROSA"),
    ("AC005", "IMPRESSION: Only this.", "train", None, "PLANTED^ROSA"),
    ("AC999", "No scan of this one.", "train", None, "PLANTED^ROSA"),
]


def text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return str(value)


def rows_of(path):
    sheet = openpyxl.load_workbook(path).worksheets[0]
    rows = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        fields = [text(cell) for cell in cells]
        while fields and not fields[-1]:
            fields.pop()
        if fields:
            rows.append({"line": number, "fields": fields})
    return rows


def write(name, workbook):
    path = GOLDEN / "tables" / f"{name}.xlsx"
    workbook.properties.created = workbook.properties.modified = datetime.datetime(2020, 1, 1)
    workbook.save(path)
    (GOLDEN / "tables" / f"{name}.json").write_text(json.dumps(rows_of(path), ensure_ascii=False, indent=1) + "\n")


def reports():
    workbook = openpyxl.Workbook()
    for row in REPORTS:
        workbook.active.append(row)
    return workbook


def cells():
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet["B2"] = "not in the first row or column"
    sheet["AB3"] = "column 28"
    sheet["A4"], sheet["B4"], sheet["C4"], sheet["D4"] = 7, -0.125, True, False
    sheet["A5"] = CellRichText("two ", TextBlock(InlineFont(b=True), "runs"), " of text")
    sheet["A6"] = " spaces at both ends "
    sheet["A7"] = "tab\tand\nline break & <mark> \"quotes\" '"
    sheet["A9"] = "ÄÖÜ 漢字 🫁"
    sheet["C9"] = ""
    sheet["A10"] = "x" * 30000
    workbook.create_sheet("another")["A1"] = "this sheet is not read"
    return workbook


def inline():
    workbook = openpyxl.Workbook(write_only=True)
    sheet = workbook.create_sheet()
    for i in range(50):
        sheet.append([f"id{i}", f"Report {i}, with & and <.", i, i / 8])
    return workbook


def main():
    (GOLDEN / "tables").mkdir(exist_ok=True)
    write("reports_final", reports())
    write("cells", cells())
    write("inline", inline())


if __name__ == "__main__":
    main()
