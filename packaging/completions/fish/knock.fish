complete -c knock -s d -l delay -d 'Wait this many milliseconds after each knock' -r
complete -c knock -s u -l udp -d 'Send all knocks by UDP, whatever their PROTO (the default is TCP)'
complete -c knock -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knock -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knock -s v -l verbose -d 'Tell of each knock on standard output'
complete -c knock -s h -l help -d 'Print help'
complete -c knock -s V -l version -d 'Print version'
