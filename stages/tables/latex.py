"""Tables as LaTeX, to be included in a document that uses booktabs."""

import itertools
import re
import unicodedata
from collections.abc import Sequence

from stages.tables.layout import MISSING, Entry, Table

PREAMBLE = "% \\usepackage{booktabs}\n"

CHARACTERS = {
    **{character: f"\\{character}" for character in "_&%$#{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",
    "±": "$\\pm$",
    "→": "$\\to$",
    "\N{MINUS SIGN}": "$-$",
    MISSING: "--",
}

HAT = "(.)\N{COMBINING CIRCUMFLEX ACCENT}"


def floating(caption: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A ``table`` environment of ``tables`` one below the other, the notes under them."""
    tabulars = "\n\n\\medskip\n".join(map(table, tables))
    lines = "\\par\n".join(map(escaped, notes))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{escaped(caption)}}}\n{tabulars}\n\n\\smallskip\n"
        f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize\n{lines}\n\\end{{minipage}}\n\\end{{table}}\n"
    )


def table(table: Table) -> str:
    lines = [f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", "\\toprule"]
    if table.spans:
        spans = "".join(f" & \\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}" for name, span in table.spans)
        lines.append(f"{escaped(table.corner)}{spans} \\\\")
        ends = [2 + sum(span for _, span in table.spans[:index]) for index in range(len(table.spans) + 1)]
        lines.append("".join(f"\\cmidrule(lr){{{a}-{b - 1}}}" for a, b in itertools.pairwise(ends)))
    lines.append(" & ".join(map(escaped, ["" if table.spans else table.corner, *table.columns])) + " \\\\")
    for part in table.parts:
        lines.append("\\midrule")
        lines += [" & ".join([escaped(label), *map(_cell, entries)]) + " \\\\" for label, entries in part]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def escaped(text: str) -> str:
    plain = "".join(CHARACTERS.get(character, character) for character in text)
    return unicodedata.normalize("NFC", re.sub(HAT, r"$\\hat{\1}$", unicodedata.normalize("NFD", plain)))


def _cell(entry: Entry) -> str:
    rest = escaped(entry.text.removeprefix(entry.strong))
    return f"\\textbf{{{escaped(entry.strong)}}}{rest}" if entry.strong else rest
