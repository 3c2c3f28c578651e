complete -c knock -s d -l delay -d 'Milliseconds to wait after each knock' -r
complete -c knock -s u -l udp -d 'Send all knocks over UDP, whatever their PROTO (the default is TCP)'
complete -c knock -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knock -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knock -s v -l verbose -d 'Print each knock to standard output'
complete -c knock -s h -l help -d 'Print help'
complete -c knock -s V -l version -d 'Print version'
