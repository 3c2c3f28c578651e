//! The stable codes of the diagnostics. `docs/diagnostics.md` explains each code. A code never
//! changes its meaning and is never reused for another finding.

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        $(pub(super) const $name: &str = $code;)*

        /// Every code, in order.
        #[cfg(test)]
        const ALL: &[&str] = &[$($code),*];
    };
}

codes! {
    NOT_UTF8 = "PK001",
    NUL_BYTE = "PK002",
    CONTROL_CHARACTER = "PK003",
    LINE_TOO_LONG = "PK004",
    TOO_MANY_FINDINGS = "PK005",
    TOO_MANY_DOORS = "PK006",
    SEMICOLON_COMMENT = "PK007",
    SECTION_NOT_CLOSED = "PK008",
    SECTION_NAME = "PK009",
    OPTIONS_SPELLING = "PK010",
    NO_SECTION = "PK011",
    DOUBLED_KEY = "PK012",
    WRAPPED_LINE = "PK013",
    UNKNOWN_KEY = "PK014",
    WRONG_SECTION = "PK015",
    SECTION_COMMENT = "PK016",
    VALUE_COMMENT = "PK017",
    REPEATED_KEY = "PK018",
    REPEATED_OPTIONS = "PK019",
    REPEATED_DOOR = "PK020",
    SYSLOG_IN_DOOR = "PK021",
    NO_DOOR = "PK022",
    NO_SEQUENCE = "PK023",
    TWO_SEQUENCES = "PK024",
    NO_VALUE = "PK025",
    QUOTED_VALUE = "PK026",
    NOT_A_PORT = "PK027",
    PORT_RANGE = "PK028",
    UNKNOWN_PROTOCOL = "PK029",
    EMPTY_STEP = "PK030",
    TOO_MANY_STEPS = "PK031",
    SPACE_BETWEEN_STEPS = "PK032",
    UNKNOWN_FLAG = "PK033",
    CONTRADICTING_FLAGS = "PK034",
    SPACE_BETWEEN_FLAGS = "PK035",
    NOT_SECONDS = "PK036",
    SECONDS_UNIT = "PK037",
    NUMBER_RANGE = "PK038",
    UNKNOWN_CHOICE = "PK039",
    INTERFACE_NAME = "PK040",
    NO_INTERFACE = "PK041",
    NOT_AN_ADDRESS = "PK042",
    NOT_A_NETWORK = "PK043",
    HOST_BITS = "PK044",
    TYPOGRAPHY = "PK045",
    USELESS_CMD_TIMEOUT = "PK046",
    ONE_STEP = "PK047",
    ORDERED_STEPS = "PK048",
    STOCK_SEQUENCE = "PK049",
    SHARED_BEGINNING = "PK050",
    ONE_TIME_UNREADABLE = "PK051",
    ONE_TIME_CONSUMED = "PK052",
    ONE_TIME_BAD_LINE = "PK053",
    USELESS_STOP_COMMAND = "PK054",
    NOT_AN_OPEN_PORT = "PK055",
    NOT_A_GATE = "PK056",
    OPEN_BEYOND_THIS_HOST = "PK057",
    USELESS_GATE = "PK058",
    SOCKET_PATH = "PK059",
    NO_CLIENT_FLAGS = "PK060",
    COSTLY_GUARD = "PK061",
    MISSING_PROGRAM = "PK066",
    FORBIDDEN_BY_SERVICE = "PK070",
    READABLE_SECRET = "PK071",
    STEP_SPELLING = "PK074",
    OPENS_FOR_EVERY_ADDRESS = "PK075",
    APPENDED_RULE = "PK076",
    ONLY_FOR_IPV4 = "PK077",
    NOT_A_PREFIX = "PK078",
    WIDE_PREFIX = "PK079",
    NETWORK_NOT_OPENED = "PK080",
    KEY_OF_A_FORK = "PK081",
    NOT_A_PORT_RANGE = "PK082",
    NO_KEYS = "PK083",
    KEY_WITHOUT_FORM = "PK084",
    USELESS_FOR_PACKETS = "PK085",
    PACKET_DOOR_NAME = "PK086",
    FEW_TIME_PORTS = "PK087",
    WEAK_TIME_SEQUENCE = "PK088",
    SHARED_WINDOW = "PK089",
    BAD_KEY_FILE = "PK090",
    EMPTY_KEY_FILE = "PK091",
    SHADOWED_DOOR = "PK097",
    MANY_FWKNOP_KEYS = "PK098",
    NO_FIXED_STEPS = "PK100",
    CODE_PATTERN = "PK101",
    CODE_DIGITS = "PK102",
    CODE_OVERLAP = "PK103",
    NO_CODE_SECRET = "PK104",
    WEAK_CODE = "PK105",
    SHORT_CODE_SECRET = "PK106",
}

#[cfg(test)]
mod tests {
    use super::ALL;

    const DOCS: &str = include_str!("../../../docs/diagnostics.md");

    #[test]
    fn codes_are_numbers_in_order() {
        assert!(ALL.is_sorted_by(|a, b| a < b), "{ALL:?}");
        for code in ALL {
            let number = code.strip_prefix("PK").unwrap();
            assert!(number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
        }
    }

    #[test]
    fn the_documentation_has_one_row_for_each_code_in_order() {
        let documented: Vec<&str> =
            DOCS.lines().filter_map(|line| line.strip_prefix("| PK").map(|_| &line[2..7])).collect();
        assert_eq!(documented, ALL);
    }
}
