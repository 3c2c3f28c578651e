complete -c portknockd -s i -l interface -d 'Listen on these interfaces, or on `any`, instead of the interfaces in the configuration [default: eth0]' -r
complete -c portknockd -s c -l config -d 'Read this configuration file' -r -F
complete -c portknockd -s p -l pidfile -d 'Write the process id of the daemon to this file instead of PidFile in the configuration' -r -F
complete -c portknockd -s g -l logfile -d 'Log to this file instead of LogFile in the configuration' -r -F
complete -c portknockd -s d -l daemon -d 'Run in the background'
complete -c portknockd -s D -l debug -d 'Log each packet that can be a knock, and log to standard output, too'
complete -c portknockd -s v -l verbose -d 'Log to standard output, too; this is the default without a log file and syslog'
complete -c portknockd -s l -l lookup -d 'Log host names next to addresses. An observer of the name server\'s traffic then learns which addresses knock'
complete -c portknockd -s 4 -l only-ip-v4 -d 'Ignore IPv6'
complete -c portknockd -l check -d 'Read the configuration, print its errors and warnings, and exit: 0 without errors, otherwise 1'
complete -c portknockd -l make-table -d 'Create the nftables table that protects the ports of doors with `open`, without starting to listen, then exit. Does nothing if no door needs the table'
complete -c portknockd -l remove-table -d 'Remove the nftables table that protects the ports of doors with `open` and that a stopped daemon leaves in place, then exit. Succeeds if there is no such table'
complete -c portknockd -l dry-run -d 'Match and log, but run no command, open no port, write no state and consume no one-time sequence'
complete -c portknockd -l reader -d 'Read packets for the daemon at the other end of standard input; only portknockd itself uses this'
complete -c portknockd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknockd -s V -l version -d 'Print version'
