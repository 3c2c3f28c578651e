//! Which commands need no shell.

/// The words of a command that a shell would only take apart at its blanks, to start the program that the first one
/// names with its path. `None` where there is anything in it that a shell might do more with.
pub(super) fn plain(command: &str) -> Option<Vec<&str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:,+=@% \t".contains(&byte);
    let words: Vec<&str> = command.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let is_path = words.first().is_some_and(|program| program.starts_with('/'));
    (is_path && command.bytes().all(is_plain)).then_some(words)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn programs_with_paths_need_no_shell() {
        let iptables = "/sbin/iptables -I INPUT -s 2001:db8::1 -p tcp --dport 22 -j ACCEPT";
        assert_eq!(plain(iptables).unwrap().join(" "), iptables);
        assert_eq!(plain(" /bin/a\t-b  c=d ").unwrap(), ["/bin/a", "-b", "c=d"]);
        // A builtin, a variable for the command, a keyword, nothing at all.
        for command in ["true", "A=/b /bin/a", "! /bin/a", "if /bin/a", "", " "] {
            assert_eq!(plain(command), None, "{command}");
        }
        for special in "|&;<>()$`\\\"'*?[]#~{}!^\n\r\u{b}\0\u{2014}".chars() {
            assert_eq!(plain(&format!("/bin/a b{special}c")), None, "{special:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        #[test]
        fn a_shell_makes_the_same_of_it(arguments in "[ -~\t]{0,3}[a-zA-Z0-9/._:,+=@% \t-]{0,24}") {
            let command = format!("/usr/bin/printf %s, {arguments}");
            if let Some(words) = plain(&command) {
                let by_shell = Command::new("/bin/sh").arg("-c").arg(&command).output().unwrap();
                let without = Command::new(words[0]).args(&words[1..]).output().unwrap();
                proptest::prop_assert_eq!(by_shell, without);
            }
        }
    }
}
