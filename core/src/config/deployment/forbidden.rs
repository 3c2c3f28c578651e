//! Finds commands that need permissions that the packaged service does not have. It analyses the
//! shell text approximately, and recognises the usual cases.

/// A permission that a command needs and the service does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// A program that changes to another user.
    OtherUser(&'static str),
    /// A program that works for root only.
    Root(&'static str),
    /// A file that the service cannot write.
    Write(String),
}

const OTHER_USER: [&str; 6] = ["doas", "pkexec", "runuser", "setpriv", "su", "sudo"];
const ROOT: [&str; 24] = [
    "docker",
    "docker-compose",
    "fail2ban-client",
    "firewall-cmd",
    "firewall-offline-cmd",
    "halt",
    "invoke-rc.d",
    "loginctl",
    "lxc",
    "machinectl",
    "modprobe",
    "mount",
    "podman",
    "poweroff",
    "rc-service",
    "reboot",
    "service",
    "shorewall",
    "shutdown",
    "sysctl",
    "systemctl",
    "systemd-run",
    "ufw",
    "virsh",
];
/// Words that can precede the program of a simple command.
const PREFIXES: [&str; 14] =
    ["!", "command", "do", "elif", "else", "env", "exec", "if", "nice", "nohup", "then", "time", "until", "while"];
/// Directories and files that the service can write to.
const WRITABLE: [&str; 9] = [
    "/dev/",
    "/proc/self/",
    "/run/portknock/",
    "/tmp/",
    "/var/lib/portknock/",
    "/var/log/knockd.log",
    "/var/run/portknock/",
    "/var/tmp/",
    // The value of a variable is unknown.
    "$",
];

/// Returns the permissions that this command needs and the service does not have, in the order of
/// the text.
pub(super) fn forbidden(command: &str) -> Vec<Forbidden> {
    let mut found = Vec::new();
    let mut starts_command = true;
    let mut writes = false;
    for token in tokens(command) {
        match token {
            Token::Separator => (starts_command, writes) = (true, false),
            Token::End => (starts_command, writes) = (false, false),
            Token::Output => writes = true,
            Token::Word(word) if std::mem::take(&mut writes) => {
                if !WRITABLE.iter().any(|place| word.starts_with(place)) {
                    found.push(Forbidden::Write(word));
                }
            }
            Token::Word(word) if starts_command => {
                let is_assignment = word.split_once('=').is_some_and(|(name, _)| is_name(name));
                starts_command = is_assignment || PREFIXES.contains(&&*word);
                let program = word.rsplit('/').next().unwrap_or_default();
                let named = |names: &[&'static str]| names.iter().copied().find(|name| *name == program);
                found.extend(named(&OTHER_USER).map(Forbidden::OtherUser));
                found.extend(named(&ROOT).map(Forbidden::Root));
                // The command of the other user follows.
                starts_command |= named(&["sudo", "doas"]).is_some();
            }
            Token::Word(_) => {}
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

enum Token {
    /// The next word begins a command.
    Separator,
    /// Commands in brackets end: the next word does not begin a command.
    End,
    /// The next word is a file that the command writes.
    Output,
    Word(String),
}

/// Splits a command approximately as a shell does: it supports quotes, brackets and redirections,
/// but no variables and no here-documents.
fn tokens(command: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    let mut has_word = false;
    let mut quote = None;
    // For each open bracket, the quote that surrounds it.
    let mut brackets = Vec::new();
    let mut letters = command.chars().peekable();
    while let Some(letter) = letters.next() {
        let ends = match (quote, letter) {
            (Some(open), _) if letter == open => {
                quote = None;
                None
            }
            // The rest of the quoted text belongs to the word; a substitution in it is a separate
            // command.
            (Some('"') | None, '$') if letters.peek() == Some(&'(') => {
                letters.next();
                brackets.push(quote.take());
                Some(Token::Separator)
            }
            (Some('"') | None, '\\') => {
                word.extend(letters.next());
                has_word = true;
                None
            }
            (Some(_), _) => {
                word.push(letter);
                None
            }
            (None, '\'' | '"') => {
                (quote, has_word) = (Some(letter), true);
                None
            }
            (None, ' ' | '\t') => Some(Token::Word(String::new())),
            (None, '(') => {
                brackets.push(None);
                Some(Token::Separator)
            }
            (None, ')') => match brackets.pop() {
                Some(outside) => {
                    quote = outside;
                    Some(Token::End)
                }
                // The end of a pattern of `case`.
                None => Some(Token::Separator),
            },
            (None, ';' | '|' | '\n' | '`' | '{' | '}') => Some(Token::Separator),
            (None, '&') => match letters.peek() {
                Some('>') => Some(Token::Word(String::new())),
                _ => Some(Token::Separator),
            },
            (None, '>') => {
                while letters.next_if(|next| matches!(next, '>' | '|')).is_some() {}
                // A number before it is a descriptor, and so is a number after an ampersand.
                if word.bytes().all(|byte| byte.is_ascii_digit()) {
                    (has_word, _) = (false, word.clear());
                }
                match letters.next_if(|next| *next == '&') {
                    Some(_) => {
                        while letters.next_if(|next| next.is_ascii_digit() || *next == '-').is_some() {}
                        Some(Token::Word(String::new()))
                    }
                    None => Some(Token::Output),
                }
            }
            (None, _) => {
                word.push(letter);
                has_word = true;
                None
            }
        };
        let Some(token) = ends else { continue };
        if std::mem::take(&mut has_word) {
            tokens.push(Token::Word(std::mem::take(&mut word)));
        }
        if !matches!(token, Token::Word(_)) {
            tokens.push(token);
        }
        // After a bracket, the quoted text continues.
        has_word = quote.is_some();
    }
    if has_word {
        tokens.push(Token::Word(word));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::Forbidden::{OtherUser, Root, Write};
    use super::*;

    #[test]
    fn common_commands_are_recognised() {
        let write = |path: &str| Write(path.to_owned());
        let cases = [
            (
                "sudo iptables -I INPUT -s %IP% -j ACCEPT && echo \"$(date): opened for %IP%\" >> /var/log/port_knocking.log",
                vec![OtherUser("sudo"), write("/var/log/port_knocking.log")],
            ),
            ("ufw insert 1 allow from %IP% to any port 22 comment knockd", vec![Root("ufw")]),
            (
                "/usr/bin/firewall-cmd --zone=public --add-rich-rule='rule family=\"ipv4\" accept' --timeout=3600",
                vec![Root("firewall-cmd")],
            ),
            ("sudo ufw reload", vec![OtherUser("sudo"), Root("ufw")]),
            ("sleep 5; /bin/systemctl restart ssh", vec![Root("systemctl")]),
            ("if true; then docker start wiki; fi", vec![Root("docker")]),
            ("A=1 B= exec systemd-run --no-block x", vec![Root("systemd-run")]),
            (
                "(sleep 1; echo \"$(sysctl -n a)/ufw\") && case x in x) reboot;; esac",
                vec![Root("sysctl"), Root("reboot")],
            ),
            ("echo `service x start` | tee /dev/null", vec![Root("service")]),
            ("echo %IP% >/etc/allowed 2>>err", vec![write("/etc/allowed"), write("err")]),
        ];
        for (command, expected) in cases {
            assert_eq!(forbidden(command), expected, "{command}");
        }
    }

    #[test]
    fn commands_that_the_service_can_run_are_not_reported() {
        for command in [
            "/usr/sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
            "nft add element inet filter open4 '{ %IP% timeout 1h }' >/dev/null 2>&1",
            "echo sudo ufw systemctl",
            "echo 'x; sudo ufw > /etc/x'",
            "logger -t docker \"ufw: %IP% && systemctl\"",
            "date >> /var/lib/portknock/log; echo %IP% > /run/portknock/last 2>&-",
            "echo a\\>b; test 1 -gt 0 &",
            "echo x > $FILE; echo x > \"$DIR/y\"",
            "/opt/my-service-docker/sudo.sh",
            "echo >> /var/log/knockd.log &> /dev/null",
            "",
        ] {
            assert_eq!(forbidden(command), [], "{command}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_accepted(command in "[ -~\t]{0,60}") {
            forbidden(&command);
        }
    }
}
