"""Sentences and files that the patterns must and must not match."""

from style.check import AllowEntry, Finding, check

MUST_MATCH = [
    ("where", "It is empty where there is none."),
    ("where", "Where the kernel refuses, the call fails."),
    ("where", "True where one of the doors is open."),
    ("headless", "Who sends the sequence has the door opened."),
    ("headless", "A limit is kept. Whoever exceeds it waits."),
    ("headless", "What the kernel reports is logged."),
    ("headless", "The door opens; who is late waits."),
    ("headless", "This is slow for who sends much."),
    ("modules-speak", "The daemon says which doors there are."),
    ("modules-speak", "The reader is told to end."),
    ("modules-speak", "The kernel knows the address."),
    ("modules-speak", "The matcher wants a port."),
    ("passive", "The list is looked at every second."),
    ("passive", "The address is\ntaken up again."),
    ("constant", "So many frames are decoded in a turn."),
    ("auxiliary", "All ports but for one are closed."),
    ("auxiliary", "A flag shall be set."),
    ("auxiliary", "Gives the port. Else NULL."),
    ("word", "The fix mends the line."),
    ("word", "The port is shut."),
    ("word", "The old lines are passed\nover."),
    ("word", "A table of its own."),
    ("word", "Nobody can see it."),
    ("word", "It has no rights."),
    ("word", "Both start at once."),
    ("word", "The comment behind the value."),
    ("long", " ".join(["word"] * 36) + "."),
]
MUST_NOT_MATCH = [
    "The directory where the daemon keeps its state.",
    "The error reports where the value is.",
    "Where does the packet come from?",
    "What does it cost?",
    "Hosts that do not know the sequence cannot reach the service.",
    "An attacker who sees the packets can repeat them, and that is what the sequence file prevents.",
    "An observer sees the packets.",
    "The daemon shuts down, and a shutdown is logged.",
    "`nobody` owns the file; the command `tell where it is` is code.",
    "A blank line ends the section.",
    "The client is behind a router, and the test leaves nothing behind.",
    "The standard port is 22 and the timestamp is in UTC.",
    "The door is asked to close.",
    "Whatever happens, the door closes.",
    "So far no packet has come.",
    "[Link](https://example.org/who-says-so) to a page.",
    " ".join(["word"] * 35) + ".",
    " ".join(["word"] * 35) + ". knockd " + " ".join(["word"] * 34) + ". wait: " + " ".join(["word"] * 34) + ".",
]
DOCUMENTS = [
    ("a.md", "# What it costs\n\n```\nwho says so\n```\n\n| What it is | value |\n|---|---|\n| nobody | `told` |\n", [("word", 9)]),
    ("a.rs", '/// So many\n/// frames.\nfn a() {\n    log("the file is \\\n        shut {name}");\n}\n', [("constant", 1), ("word", 5)]),
    ("a.rs", '#[cfg(test)]\nmod tests {\n    const A: &str = "it is told so";\n    // Told.\n}\nconst B: &str = "it is told so";\n', [("modules-speak", 4), ("modules-speak", 6)]),
    ("a.rs", "struct Found;\nconst PATIENCE: u8 = 1;\nfn is_told() {}\nfn takes_over() {}\nfn stamina(many: u8) {}\nlet a = B {\n    told: false,\n};\nenum C {\n    NotShut,\n    Open(Shut),\n}\n", [("name", n) for n in (1, 2, 3, 4, 10)]),
    ("a.py", 'def a():\n    """It tells."""\n    return "it is shut" + "told"  # anew\n', [("modules-speak", 2), ("word", 3), ("word", 3)]),
    ("packaging/debian/control", "Package: told\nDescription: portknock\n It tells.\n .\n It says.\n", [("modules-speak", 3), ("modules-speak", 5)]),
    ("scripts/a", "#!/bin/sh\n# Nobody.\necho \"it says $1\" >&2\nsaid=1\n", [("word", 2), ("modules-speak", 3)]),
    ("packaging/man/a.8.in", ".Nm\nis told by\n.Ic open .\nWhat it has\n.Bd -literal\nit says\n.Ed\n", [("modules-speak", 2), ("headless", 4)]),
]


def self_test():
    failures = []
    for rule, text in MUST_MATCH:
        if rule not in [f.rule for f in check("a.md", text)]:
            failures.append(f"must match {rule}: {text}")
    for text in MUST_NOT_MATCH:
        failures += [f"must not match {f.rule} ({f.match}): {text}" for f in check("a.md", text)]
    for name, source, expected in DOCUMENTS:
        if (found := sorted((f.rule, f.line) for f in check(name, source))) != sorted(expected):
            failures.append(f"{name}: found {found} in place of {sorted(expected)}:\n{source}")
    entry = AllowEntry(1, "word", "docs/*", "shut door")
    exact = Finding("docs/a.md", 1, "word", "shut", "close", "A shut door.")
    other = Finding("docs/a.md", 1, "word", "shut", "close", "The port is shut.")
    if entry.covers(other) or entry.used or not entry.covers(exact) or not entry.used:
        failures.append("an exception covers other findings than its own")
    for failure in failures:
        print(f"check-style: self-test: {failure}")
    return 1 if failures else 0
