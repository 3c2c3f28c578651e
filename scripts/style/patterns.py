"""What texts and names must not contain, and what to write instead."""

import re

MAX_WORDS = 35
# Nouns and verbs after which "where" asks for a place.
PLACE = (
    "line directory place places point position path page part column section system systems host "
    "exactly from to is are shows show see find finds know knows report reports state states describe describes"
).split()
MODULE = (
    "it|daemon|reader|kernel|matcher|engine|filter|program|library|parser|process|knockd|portknockd|"
    "systemd|loop|capture|client library|test|function|service|journal"
)
# Each rule: its name, patterns and what to write in place of a match. A space matches any white space.
RULES = [
    ("where", r"(?<![\w-])(?<!@)where(?= \w)(?! (it|they|these|this) (is|are|was|were|points?|begins?|ends?)[.,;:)])", '"if" or "when"; "where" is for a place'),
    ("headless", r"(?P<opening>(Who|Whoever|Whom|Whose|What|Whatever(?! [^.;,]{1,40},)|Whichever) (?!.*\?$))", "name the subject"),
    ("headless", r"(?<=[:;] )(who|whoever|whatever|what)(?= )(?!.*\?)", "name the subject"),
    ("headless", r"\b(for|to|by|with|from|but|than|of|against|and|or|if|when|that) (who|whoever|whomever)(?= )", "name the person"),
    ("headless", r"\bwhoever\b", "name the person"),
    ("modules-speak", r"\b(tells?|told|telling)\b", "reports, logs, prints, sends, notifies"),
    ("modules-speak", r"\b(says?|said|saying)\b", "reports, logs, prints, states, describes"),
    ("modules-speak", r"\b(hears?|heard|hearing)\b", "receives, is notified of"),
    ("modules-speak", r"\b(believes?|believed|believing)\b", "accepts, trusts, validates"),
    ("modules-speak", rf"\b({MODULE}) (wants|wanted|knows|knew|sees|saw)\b", "requires, has, reads, receives"),
    ("modules-speak", r"\b(wants|wanted)\b", "requires, needs"),
    ("modules-speak", r"\bcomplain(s|ed|ing)?\b", "reports, warns"),
    ("passive", r"\b(is|are|was|were|be|been|being) (not )?(looked (at|for|into|through)|taken (up|over|in|for)"
     r"|asked(?! to\b)|let (in|out|go|through|by)|known (of|about)|spoken|done with|meant(?! (to|for)\b)|waited for)\b",
     "name the actor and use the active voice"),
    ("constant", r"(?P<opening>(So (many|much|long|often|few|big|large|late)|(As|This) (many|much)(?! as\b))\b)", "a noun phrase with a unit"),
    ("auxiliary", r"\bshall\b", "must"),
    ("auxiliary", r"\bbut for\b", "except"),
    ("auxiliary", r"\b(nothing|none|all|any|anything|everything|no one) but\b", "only, except"),
    ("auxiliary", r"(\bor else\b|[,;:] else\b|(?P<opening>Else\b))", "otherwise"),
]
WORDS = [
    (r"(un)?mend(s|ed|ing)?", "fix, repair"),
    (r"stamp(s|ed|ing)?", "timestamp"),
    (r"sights?", "packet source"),
    (r"intakes?", "feed"),
    (r"(lie|lies|lying|lied|liar)", "is in; protocol violation, invalid message"),
    (r"(take|takes|took|taken|taking) (up|over|the place)", "resume, restore, replace, hand over"),
    (r"(renew(s|ed|ing)?|renewals?)", "restart (of the reader)"),
    (r"(un)?seal(s|ed|ing)?", "enter the sandbox"),
    (r"namesakes?", "doors of the same name"),
    (r"lanes?", "queue"),
    (r"things?", "name it: object, value, text"),
    (r"patien(ce|t|tly)", "timeout"),
    (r"words\.rs", "argv"),
    (r"borders?", "boundary"),
    (r"own table", "managed table"),
    (r"ungat(e|es|ed|ing)", "remove the table"),
    (r"shut(s|ting)?(?! ?down)", "close, closed, protected"),
    (r"blasts?(ed|ing)?", "packet generator"),
    (r"cables?", "link emulator"),
    (r"folders?", "directory"),
    (r"blanks?(?! lines?\b)", "space, white space"),
    (r"rights", "permissions, privileges, capabilities"),
    (r"(no|the|a) right to", "permission, privilege, capability"),
    (r"pass(es|ed|ing)? over", "skip, ignore"),
    (r"at once", "immediately, or at the same time"),
    (r"anew", "again"),
    (r"beside", "next to, in addition to"),
    (r"(stand|stands|stood|standing)(?! for\b)(?!-alone)(?! ?alone\b)", "is (in), remains"),
    (r"behind(?! (a |an |the |one |their |its |such a |another |some )?(\w+ )?(NAT|NATs|router|routers|proxy|firewall|relay|path|DESTDIR)\b)(?! address translation)",
     "after, next to, is in"),
    (r"(for )?want of", "out of, without"),
    (r"(somebody|nobody|everybody|anybody)('s)?", "a client, an attacker, any host, no host"),
    (r"knocks count", "portknockd is listening"),
    (r"(look|looks|looked|looking) at", "reads, checks, examines"),
    (r"(look|looks|looked|looking) whether", "checks"),
    (r"knockers?", "client"),
    (r"forg(e|es|ed|ing|ery|eries)", "spoofed"),
    (r"onlookers?", "observer, attacker"),
    (r"the house", "the architecture"),
    (r"thin doors?", "front end"),
    (r"of (its|their|his|our|your) own", "separate, dedicated, its own"),
    (r"(used up|using up|uses up|use up)", "consumed, consume"),
    (r"its like", "repeat the noun"),
    (r"the one before", "repeat the noun"),
    (r"whom", "name the person"),
]
RULES += [("word", rf"(?<![\w-])(?<!@)({pattern})(?![\w])(?!-\w)", text) for pattern, text in WORDS]

# Words inside names. A test's name is a sentence, so its words are forbidden, too.
NAME_WORDS = {
    "mend": "fix", "mends": "fixes", "mended": "fixed", "unmended": "unfixed", "mending": "fixing",
    "tell": "report, log, notify, send", "tells": "reports", "told": "reported",
    "say": "report", "says": "reports", "said": "reported", "hear": "receive", "hears": "receives", "heard": "received",
    "believe": "validate", "believes": "validates", "believed": "validated", "wants": "requires",
    "stamp": "timestamp", "stamps": "timestamps", "stamped": "timestamped",
    "sight": "packet source", "sights": "packet sources", "intake": "feed",
    "lie": "protocol violation", "lies": "protocol violation", "lying": "protocol violation", "liar": "hostile",
    "renew": "restart", "renews": "restarts", "renewed": "restarted", "renewal": "restart", "renewals": "restarts",
    "seal": "enter sandbox", "sealed": "sandboxed", "patience": "timeout", "namesake": "same name", "namesakes": "doors of the same name",
    "lane": "queue", "lanes": "queues", "thing": "object", "things": "objects", "border": "boundary", "borders": "boundaries",
    "ungate": "remove table", "shut": "close", "shuts": "closes", "shutting": "closing", "blast": "pktgen", "cable": "netem",
    "folder": "directory", "folders": "directories", "blank": "space", "blanks": "spaces", "rights": "privileges",
    "anew": "again", "beside": "next to",
    "somebody": "a client", "nobody": "no host", "everybody": "any host", "whoever": "name the subject",
    "knocker": "client", "knockers": "clients", "forged": "spoofed", "onlooker": "observer",
}
NAME_PHRASES = {
    "at_once": "immediately, or at the same time", "take_up": "resume", "take_over": "restore, hand over",
    "takes_over": "restores, hands over", "taken_over": "restored, handed over", "takes_up": "resumes", "taken_up": "resumed",
    "passed_over": "skipped", "own_table": "managed table", "used_up": "consumed", "looked_at": "checked", "looks_at": "checks", "look_at": "check",
}
# Names that are not in use any more, and what to call their objects.
NAMES = {
    "PATIENCE": "…_TIMEOUT", "AT_ONCE": "…_BATCH, …_DELAY", "TOGETHER": "…_BATCH", "FEW": "…_THRESHOLD", "MANY": "…_THRESHOLD, …_LIMIT",
    "who": "name the subject", "Who": "name the subject",
    "Found": "DoorEvent, Observation, TaskResult", "What": "DoorEventKind", "Term": "metadata", "Thing": "object",
    "Sight": "packet source", "Pace": "Coalescer", "Saved": "SavedOpening", "Running": "Child, RunningReader, ActiveRuleset",
    "words": "argv",
}
# Names that may have one definition at most: a second one is a second meaning.
ONE_MEANING = {
    "Line": "CommandQueue, EventLine, PendingLine", "Link": "Interface, NftSocket, DaemonConnection, Linked",
    "Answer": "Response, Ack, HostName", "Outcome": "CommandResult, Verdict",
    "Rule": "PlannedRule, CheckedRule, RuleWriter, DoorRules", "Reader": "Parser", "Attempt": "Connection (of a probe)",
    "Report": "CheckReport", "Status": "StatusReport", "Refusal": "one type", "Style": "one type",
}


def compiled(pattern):
    pattern = re.sub(r"(?<!\\)(?<!\(\?) (?![+*?])", r"\\s+", pattern) if "(?<=" not in pattern else pattern
    return re.compile(pattern, re.S if "opening" in pattern else re.I | re.S)


COMPILED = [(rule, compiled(pattern), "opening" in pattern, advice) for rule, pattern, advice in RULES]
