"""Finds the texts that a person reads in documents, manual pages, sources and scripts."""

import ast
import io
import pathlib
import re
import tokenize
from dataclasses import dataclass, field


@dataclass
class Passage:
    """Text that belongs together (a paragraph, a table cell, a comment, a message), with its lines."""

    pieces: list = field(default_factory=list)  # (line number, text)

    def text_and_lines(self):
        text, starts = "", []
        for number, piece in self.pieces:
            starts.append((len(text), number))
            text += piece + " "
        return text.rstrip(), starts


def markdown(lines):
    """Passages of Markdown: `lines` are (number, text)."""
    passages, current, fence, last_blank, in_list, last_row = [], Passage(), None, True, False, 0

    def end():
        nonlocal current
        if current.pieces:
            passages.append(current)
        current = Passage()

    for number, line in lines:
        bare = line.strip()
        if fence:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                fence = None
            continue
        if opening := re.match(r"(`{3,}|~{3,})", bare):
            end()
            fence = opening[1]
            continue
        if bare.startswith("> "):
            bare = bare[2:]
        if not bare:
            end()
            last_blank = True
            continue
        if last_blank and not in_list and re.match(r"(\t| {4,})\S", line):
            continue  # an indented code block
        last_blank = False
        if bare.startswith("|"):
            end()
            is_header, last_row = last_row != number - 1, number
            if not re.fullmatch(r"[|:\- ]+", bare):
                for cell in re.split(r"(?<!\\)\|", mask_code(bare)):
                    if cell.strip():
                        passages.append(Passage([(number, (without_question(cell) if is_header else cell).strip())]))
            continue
        if heading := re.match(r"#{1,6} (.*)", bare):
            end()
            in_list = False
            passages.append(Passage([(number, without_question(heading[1]))]))
            continue
        if item := re.match(r"([-*+]|\d+[.)]) +(.*)", bare):
            end()
            in_list, bare = True, item[2]
        elif not line.startswith(" "):
            in_list = False
        if re.match(r"\[[^\]]+\]: ", bare):
            continue  # the address of a link
        current.pieces.append((number, bare))
    end()
    return passages


def without_question(heading):
    """A heading such as "What it costs" is no sentence: without its first word it is checked as all others."""
    return re.sub(r"^\s*(What|Who|Whose|Where) ", "", heading)


def mask_code(text):
    """Replace inline code and addresses by one word of the same length."""
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda m: "C" + "~" * (len(m[0]) - 1), text, flags=re.S)
    text = re.sub(r"\]\([^)\s]*\)", lambda m: "]" + " " * (len(m[0]) - 1), text)
    text = re.sub(r"\]\[[^\]]*\]", lambda m: "]" + " " * (len(m[0]) - 1), text)
    return re.sub(r"\b[a-z]+://[^\s)>\"]+[^\s)>\".,;:]", lambda m: "C" + "~" * (len(m[0]) - 1), text)


def roff(lines):
    """Passages of a manual page in mdoc: text lines, without the lines of macros that hold code."""
    passages, current, literal = [], Passage(), False
    flow = {"Ic", "Cm", "Pa", "Nm", "Xr", "Fl", "Ar", "Fn", "Vt", "In", "Er", "Dv", "Va", "Ev", "Li", "Fa", "Lk", "Dq", "Sq", "Em", "Sy", "Ql", "Op"}
    for number, line in lines:
        if match := re.match(r"\.\s*(\w+)(?: (.*))?", line):
            macro, rest = match[1], match[2] or ""
            if macro == "Bd" and "-literal" in rest:
                literal = True
            elif macro == "Ed":
                literal = False
            if literal:
                continue
            if macro in ("Em", "Sy", "Dq", "Sq"):
                current.pieces.append((number, rest))
            elif macro in flow:
                # Punctuation after the code is the sentence's: ".Ic open ,"
                end = re.search(r"(?: [.,:;)?!])+$", rest)
                current.pieces.append((number, "C~" + (end[0].replace(" ", "") if end else "")))
            else:
                passages.append(current)
                current = Passage()
                if macro in ("Nd", "Sh", "Ss", "It") and macro != "It":
                    passages.append(Passage([(number, rest)]))
        elif line.startswith("@"):
            passages.append(current)
            current = Passage()
        elif not literal:
            current.pieces.append((number, re.sub(r"\\f[A-Z]|\\&|\\-", "", line)))
    return [p for p in [*passages, current] if p.pieces]


def comment_blocks(comments):
    """Join comment lines that follow each other; each is (line, column, kind, text)."""
    blocks, last = [], None
    for number, column, kind, text in comments:
        if not last or last[0] + 1 != number or last[1:] != (column, kind):
            blocks.append([])
        blocks[-1].append((number, text))
        last = (number, column, kind)
    return [passage for block in blocks for passage in markdown(block)]


RUST_TOKEN = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*.*?\*/)
      | (?P<raw>\b(?:br|cr|r)(?P<hashes>\#*)".*?"(?P=hashes))
      | (?P<string>\b[bc]?"(?:\\.|[^"\\])*")
      | (?P<plain>"(?:\\.|[^"\\])*")
      | (?P<char>'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])')
      | (?P<brace>[{}])
      | (?P<test>\#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod\s+\w+\s*(?=\{))""",
    re.X | re.S,
)


def is_test(name):
    return bool(re.search(r"(^|/)(tests|benches|fuzz)/|(^|/)tests?\.rs$|_tests?\.rs$", name))


def c_like(name, source):
    """Passages of Rust and C: comments, and the strings outside of tests."""
    comments, passages, depth, test_depth = [], [], 0, None
    strings = not is_test(name)
    for token in RUST_TOKEN.finditer(source):
        number = source.count("\n", 0, token.start()) + 1
        column = token.start() - (source.rfind("\n", 0, token.start()) + 1)
        kind, text = token.lastgroup, token[0]
        if token["line"]:
            marker = re.match(r"///?!?|//!", text)[0]
            comments.append((number, column, marker, re.sub(r"^///?!? ?|^//! ?", "", text)))
        elif token["block"]:
            body = text[2:-2].lstrip("*!")
            comments += [(number + i, -1, token.start(), re.sub(r"^\s*\* ?", "", line)) for i, line in enumerate(body.split("\n"))]
        elif token["brace"]:
            depth += 1 if text == "{" else -1
            if test_depth is not None and depth < test_depth:
                test_depth = None
        elif token["test"]:
            test_depth = depth + 1 if test_depth is None else test_depth
        elif kind != "char" and strings and test_depth is None:
            passages += string(number, text)
        if test_depth is not None and token["brace"] and text == "}" and depth == test_depth - 1:
            test_depth = None
    return comment_blocks(comments) + passages


def string(number, literal):
    """Passages of a string literal: one for each line that it prints."""
    raw = literal.lstrip("bc").startswith("r")
    body = literal[literal.index('"') + 1 : literal.rindex('"')]
    passages, current = [], Passage()
    for i, line in enumerate(body.split("\n")):
        line = line.lstrip() if i else line
        continued = not raw and line.endswith("\\")
        line = line[:-1] if continued else line
        parts = re.split(r"\\n", line) if not raw else [line]
        for j, part in enumerate(parts):
            if j:
                passages.append(current)
                current = Passage()
            part = re.sub(r"\{\{|\}\}|\\[\"'t]", " ", part)
            current.pieces.append((number + i, re.sub(r"\{[^}]*\}", "C~", part)))
        if not continued:
            passages.append(current)
            current = Passage()
    passages.append(current)
    return [p for p in passages if len(re.findall(r"[A-Za-z]{2,}", " ".join(t for _, t in p.pieces))) > 1]


def python(name, source):
    """Passages of Python: comments, docstrings, and the other strings outside of tests."""
    comments, passages = [], []
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        for child in getattr(node, "body", []) if not isinstance(node, (ast.Lambda, ast.IfExp)) else []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
                docstrings.add(child.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        number, column = token.start
        if token.type == tokenize.COMMENT and not token.string.startswith("#!"):
            comments.append((number, column, "#", re.sub(r"^#:? ?", "", token.string)))
        elif token.type == tokenize.STRING:
            body = re.sub(r"^[a-zA-Z]*('''|\"\"\"|'|\")(.*)\1$", r"\2", token.string, flags=re.S)
            if number in docstrings:
                passages += markdown([(number + i, line.strip() if i else line) for i, line in enumerate(body.split("\n"))])
            elif not is_test(name) and "\n" not in body:
                passages += string(number, f'"{body}"')
    return comment_blocks(comments) + passages


def hashed(name, source):
    """Passages of files whose comments begin with `#`; of a shell script also the texts that it prints."""
    comments, passages = [], []
    shell = source.startswith("#!") and "sh" in source.split("\n", 1)[0]
    for number, line in enumerate(source.split("\n"), 1):
        if number == 1 and line.startswith("#!"):
            continue
        if match := re.match(r"[Dd]escription ?= ?\"?(.*?)\"?$", line):
            passages.append(Passage([(number, match[1])]))
            continue
        if match := re.match(r"(\s*)# ?(.*)", line):
            comments.append((number, len(match[1]), "#", match[2]))
            continue
        if match := re.search(r"\s##? (?=[A-Za-z])(.*)", line):
            passages.append(Passage([(number, match[1])]))
            line = line[: match.start()]
        if shell and re.search(r"\b(echo|printf|die|fail|warn|title|note|check|error|print)\b", line):
            for literal in re.findall(r"\"(?:\\.|[^\"\\])*\"|'[^']*'", line):
                passages += string(number, '"' + re.sub(r"\$\{?\w+[^} ]*\}?|%[sd]", "C~", literal[1:-1]).replace('"', "") + '"')
    return comment_blocks(comments) + passages


def passages_of(name, source):
    suffix = pathlib.PurePath(name).suffix
    if suffix == ".md":
        return markdown(enumerate(source.split("\n"), 1))
    if name == "packaging/debian/control":
        # The descriptions; a dot is an empty line.
        lines = (line.removeprefix("Description: ") if re.match("Description: | ", line) else "" for line in source.split("\n"))
        return markdown(enumerate((line.strip().removeprefix(".") for line in lines), 1))
    if suffix in (".rs", ".c", ".h"):
        return c_like(name, source)
    if suffix in (".py", ".pyi") or source.startswith("#!/usr/bin/env python3"):
        return python(name, source)
    if name.startswith("packaging/man/") or suffix == ".3":
        return roff(enumerate(source.split("\n"), 1))
    return hashed(name, source)
