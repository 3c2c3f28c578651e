complete -c portknockd -s i -l interface -d 'Listen on these interfaces, or on `any`, instead of those in the configuration [default: eth0]' -r
complete -c portknockd -s c -l config -d 'Read this configuration file' -r -F
complete -c portknockd -s p -l pidfile -d 'Write the process id of the daemon to this file instead of that in the configuration' -r -F
complete -c portknockd -s g -l logfile -d 'Log to this file instead of that in the configuration' -r -F
complete -c portknockd -s d -l daemon -d 'Become a daemon'
complete -c portknockd -s D -l debug -d 'Log each packet that matters, and log to the standard output too'
complete -c portknockd -s v -l verbose -d 'Log to the standard output too; without a log file or syslog that is done anyway'
complete -c portknockd -s l -l lookup -d 'Log names beside addresses. Whoever can watch the name server then sees who knocks'
complete -c portknockd -s 4 -l only-ip-v4 -d 'Pass over IPv6'
complete -c portknockd -l check -d 'Read the configuration, show everything that is wrong with it, and exit: 0 without errors, else 1'
complete -c portknockd -l make-table -d 'Make the table that refuses the ports of the doors with `open`, without starting to listen, and exit. Does nothing if no door needs it'
complete -c portknockd -l ungate -d 'Remove the table that refuses the ports of the doors with `open`, which a stopped daemon leaves behind, and exit: 0 also where there is none'
complete -c portknockd -l dry-run -d 'Match and log, but run no command, open no port, write no state and use up no one-time sequence'
complete -c portknockd -l reader -d 'Read packets for the daemon at the other end of standard input; only portknockd itself can use this'
complete -c portknockd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknockd -s V -l version -d 'Print version'
