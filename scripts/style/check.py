"""Checks texts and names against the patterns."""

import fnmatch
import re
from dataclasses import dataclass

from style.patterns import COMPILED, MAX_WORDS, NAME_PHRASES, NAME_WORDS, NAMES, ONE_MEANING, PLACE
from style.texts import mask_code, passages_of


@dataclass
class Finding:
    file: str
    line: int
    rule: str
    match: str
    advice: str
    sentence: str


# A sentence can begin with the name of a program, and an entry of a list of arguments with `name: `.
SENTENCE_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bcf)(?<!\bvs)[.?!][)\"'*_\]]*\s+"
    r"(?=[A-Z\"'(*_\[]|C~|(?:knockd|portknockd?|nmap|scapy)\b|[a-z_]\w*: )"
)


def sentences(text):
    """The sentences of a text as (offset, sentence)."""
    start = 0
    for end in SENTENCE_END.finditer(text):
        yield start, text[start : end.end()].rstrip()
        start = end.end()
    if text[start:].strip():
        yield start, text[start:]


def check_passage(name, passage):
    text, starts = passage.text_and_lines()
    masked = mask_code(text)

    def line_of(offset):
        return max(number for start, number in starts if start <= offset) if starts else 0

    for offset, sentence in sentences(masked):
        original = " ".join(text[offset : offset + len(sentence)].split())

        def finding(rule, at, match, advice):
            return Finding(name, line_of(offset + at), rule, " ".join(match.split()), advice, original)

        words = [w for w in sentence.split() if re.search(r"\w", w)]
        if len(words) > MAX_WORDS:
            yield finding("long", 0, " ".join(original.split()[:6]) + " …", f"{len(words)} words, at most {MAX_WORDS}: split it")
        taken = []
        for rule, pattern, opening, advice in COMPILED:
            if opening:
                lead = len(sentence) - len(sentence.lstrip(" \"'(*_["))
                found = [m] if (m := pattern.match(sentence, lead)) else []
            else:
                found = pattern.finditer(sentence)
            for match in found:
                before = re.search(r"(\w+)\W+$", sentence[: match.start()])
                if match[0].lower() == "behind" and re.search(r"\b(leav\w+|left)\b[^.;,]*$", sentence[: match.start()], re.I):
                    continue
                if rule == "where" and (sentence.endswith("?") or before and before[1].lower() in PLACE):
                    continue
                if any(match.start() < end and start < match.end() for start, end in taken):
                    continue  # part of a match that was reported
                taken.append(match.span())
                yield finding(rule, match.start(), match[0], advice)


DEFINITION = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?(?:const |unsafe |async |extern \"C\" )*(fn|struct|enum|trait|type|const|static|mod|union) (?:mut )?(\w+)")
FIELD = re.compile(r"^\s+(?:pub(?:\([^)]*\))? )?(\w+): (?!(?:false|true|None|Some\b|self\b|[a-z_]+\())[A-Z&\[(a-z]")


VARIANT = re.compile(r"^( +)([A-Z]\w+)(?=[,({ ]|$)")


def defined_names(source):
    """The names that the Rust source defines, as (line, kind, name)."""
    enum_indent = None
    for number, line in enumerate(source.split("\n"), 1):
        if enum_indent is not None and line == enum_indent + "}":
            enum_indent = None
        if match := DEFINITION.match(line):
            if match[1] == "enum" and line.endswith("{"):
                enum_indent = line[: len(line) - len(line.lstrip())]
            yield number, match[1], match[2]
        elif enum_indent is not None and (match := VARIANT.match(line)) and match[1] == enum_indent + "    ":
            yield number, "variant", match[2]
        elif match := FIELD.match(line):
            yield number, "field", match[1]


def check_names(name, source):
    """Names of types, variants, functions, constants, modules and fields."""
    if name.endswith("words.rs"):
        yield Finding(name, 1, "name", "words.rs", NAMES["words"], "words.rs")
    for number, kind, identifier in defined_names(source):
        if advice := NAMES.get(identifier) if kind != "variant" else None:
            yield Finding(name, number, "name", f"{kind} {identifier}", advice, f"{kind} {identifier}")
            continue
        if identifier in ONE_MEANING and kind in ("struct", "enum", "type", "trait", "union"):
            yield Finding(name, number, "meaning", identifier, f"one meaning only, for others: {ONE_MEANING[identifier]}", identifier)
        parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", identifier)]
        snake = "_".join(parts).replace("shut_down", "stop").replace("shutting_down", "stopping")
        for phrase, advice in [*NAME_PHRASES.items(), *NAME_WORDS.items()]:
            if f"_{phrase}_" in f"_{snake}_":
                yield Finding(name, number, "name", f"{kind} {identifier}", f"{phrase} -> {advice}", f"{kind} {identifier}")
                break


def check(name, source):
    findings = [f for passage in passages_of(name, source) for f in check_passage(name, passage)]
    if name.endswith(".rs"):
        findings += check_names(name, source)
    return findings


@dataclass
class AllowEntry:
    number: int
    rule: str
    files: str
    phrase: str
    used: bool = False

    def covers(self, finding):
        covered = (
            self.rule == finding.rule
            and fnmatch.fnmatchcase(finding.file, self.files)
            and self.phrase in finding.sentence
            and (finding.rule == "long" or finding.match.lower() in self.phrase.lower())
        )
        self.used |= covered
        return covered
