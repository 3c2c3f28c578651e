//! Commands that need no shell: the arguments for starting the program directly.

/// Returns the program, as an absolute path, and the arguments of a command that a shell would only
/// split at spaces. `None` if the command contains anything else that a shell might interpret.
pub(super) fn direct_argv(command: &str) -> Option<Vec<&str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:,+=@% \t".contains(&byte);
    let argv: Vec<&str> = command.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let is_path = argv.first().is_some_and(|program| program.starts_with('/'));
    (is_path && command.bytes().all(is_plain)).then_some(argv)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn programs_with_paths_need_no_shell() {
        let iptables = "/sbin/iptables -I INPUT -s 2001:db8::1 -p tcp --dport 22 -j ACCEPT";
        assert_eq!(direct_argv(iptables).unwrap().join(" "), iptables);
        assert_eq!(direct_argv(" /bin/a\t-b  c=d ").unwrap(), ["/bin/a", "-b", "c=d"]);
        // A builtin, a variable for the command, a keyword, nothing at all.
        for command in ["true", "A=/b /bin/a", "! /bin/a", "if /bin/a", "", " "] {
            assert_eq!(direct_argv(command), None, "{command}");
        }
        for special in "|&;<>()$`\\\"'*?[]#~{}!^\n\r\u{b}\0\u{2014}".chars() {
            assert_eq!(direct_argv(&format!("/bin/a b{special}c")), None, "{special:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        #[test]
        fn direct_start_and_shell_give_the_same_output(arguments in "[ -~\t]{0,3}[a-zA-Z0-9/._:,+=@% \t-]{0,24}") {
            let command = format!("/usr/bin/printf %s, {arguments}");
            if let Some(argv) = direct_argv(&command) {
                let by_shell = Command::new("/bin/sh").arg("-c").arg(&command).output().unwrap();
                let without = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
                proptest::prop_assert_eq!(by_shell, without);
            }
        }
    }
}
