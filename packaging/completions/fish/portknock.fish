# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_portknock_global_optspecs
    string join \n h/help V/version
end

function __fish_portknock_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_portknock_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_portknock_using_subcommand
    set -l cmd (__fish_portknock_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c portknock -n "__fish_portknock_needs_command" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_needs_command" -s V -l version -d 'Print version'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "check" -d 'Report the errors and warnings of a configuration, or fix it'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "replay" -d 'Show the events that the packets of a capture file would have caused, without running commands'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "keygen" -d 'Make a client\'s key, for knocks that open nothing when they are recorded and sent again'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "sequence" -d 'Print the time sequence of this moment, for any program that knocks'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "knock" -d 'Knock on ports in order, or by a key, to make a port-knocking server open a door'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "probe" -d 'Show which ports of a host are open, closed or filtered'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "rules" -d 'Print a packet filter for a host whose ports are protected by doors, or check the active one'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "status" -d 'Show the doors, the openings and the counters of the running daemon'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "close" -d 'Close a door for an address now, before its time is over'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "reload" -d 'Make the running daemon read its configuration again'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "events" -d 'Print the events of the running daemon as they happen, as lines of JSON'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portknock -n "__fish_portknock_using_subcommand check" -l format -d 'Output format' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand check" -l fix -d 'Apply every machine-applicable fix and write the fixed file to standard output'
complete -c portknock -n "__fish_portknock_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand replay" -s c -l config -d 'The configuration file with the doors' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand replay" -l local -d 'The addresses of the machine; by default packets to any destination count' -r
complete -c portknock -n "__fish_portknock_using_subcommand replay" -l format -d 'Output format' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l server -d 'Derive the key that the server gets for this server. A client can then have one key for several servers, and knocks for one of them mean nothing to the others. The name is also the default host of portknock knock' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l from -d 'Take the client\'s own key from this file, which was made with --server, instead of a new one' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l form -d 'How the client knocks' -r -f -a "time\t'A sequence that changes with the time (sequence = time), which any program can send'
packet\t'One encrypted packet (packet = portknock)'"
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l door -d 'The name of the door that packets ask for' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l port -d 'The UDP port of packets, one of those that PacketPort in the server\'s configuration names' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l steps -d 'Number of steps of a time sequence' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l ports -d 'The ports of time sequences' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l protocols -d 'The protocols of time sequences' -r -f -a "tcp\t'TCP'
udp\t'UDP'
both\t'TCP or UDP, different for each step'"
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l step -d 'Length of the window in which a time sequence is sent' -r
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -s o -l output -d 'The client\'s file; by default NAME.key, or NAME-SERVER.key with --server, in the current directory' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l digits -d 'Number of digits of the codes that the app shows' -r -f -a "6\t''
8\t''"
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l qr -d 'Also draw the client\'s file, without its comments, or the secret for the app as a QR code on standard error. The code contains the key'
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -l totp -d 'Make the secret of an authenticator app (totp_secret), for a door whose sequence contains the digits of its code, instead of a key. Writes no file: the secret is on standard output'
complete -c portknock -n "__fish_portknock_using_subcommand keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand sequence" -l key -d 'The client\'s file, which portknock keygen has written' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand sequence" -l at -d 'Print the sequence of the window that contains this time, in seconds since 1970, instead of the present window' -r
complete -c portknock -n "__fish_portknock_using_subcommand sequence" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s d -l delay -d 'Milliseconds to wait after each knock' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l key -d 'Instead of PORTs, send the knock of this moment by the client\'s key in this file, which portknock keygen has written: a time sequence, or a packet' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l address -d 'With a packet, open the door for this address. By default the packet contains the address of this machine if it is a global one; otherwise the door opens for the source address that the server receives the packet from' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l seconds -d 'With a packet, ask the door to stay open for N seconds instead of its cmd_timeout' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l then -d 'After the knocks, wait until this TCP port is open; exit with 3 if it does not open' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l wait -d 'Seconds to wait for the port to open after each round of knocks' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l retries -d 'Knock again, up to N times, if the port does not open' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l source -d 'Knock from this address, which must belong to this machine' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s u -l udp -d 'Send all knocks over UDP, whatever their PROTO (the default is TCP)'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s v -l verbose -d 'Print each knock to standard output'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l raw -d 'Send TCP knocks as bare SYNs through a raw socket (needs root or CAP_NET_RAW)'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l all-addresses -d 'Knock at each address of the host, not only the first one, or with a packet the first one of each IP version'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l method -d 'How to probe TCP ports' -r -f -a "auto\t'By SYN if raw sockets are permitted, otherwise by connect'
syn\t'By bare SYNs from a raw socket (needs root or CAP_NET_RAW)'
connect\t'By ordinary connections, which need no privileges'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l timeout -d 'Seconds to wait for the answer of a port' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l retries -d 'Repeat each unanswered probe N times, 9 at most; by default as often as the packet loss of the path requires' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l rate -d 'Maximum number of probes per second; by default as many as the path carries' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l source -d 'Probe from this address, which must belong to this machine' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l format -d 'Output format' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s p -l ports -d 'Probe these ports, in the syntax of the argument PORTS; by default the most used ports' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l expect -d 'Exit with 3 unless all ports have this state' -r -f -a "open\t'A service accepts connections, or answers'
closed\t'The host answers that no service listens'
filtered\t'There is no answer, or a firewall refuses; for UDP only a refusal'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s u -l udp -d 'Probe UDP ports (the default is TCP). Ports that do not answer are open|filtered'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l all-addresses -d 'Probe each address of the host, not only the first one'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l open -d 'Show open and open|filtered ports only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l style -d 'How the rules treat packets that no rule allows' -r -f -a "reject\t'Refuse them, as a host does on which no service listens'
drop\t'Drop them without an answer, as if the host did not exist'"
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l format -d 'The program that loads the rule set' -r -f -a "nft\t'For nft -f, IPv4 and IPv6'
iptables\t'For iptables-restore, IPv4'
ip6tables\t'For ip6tables-restore, IPv6'"
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l allow -d 'Keep these ports open for all hosts: ports, ranges and names of services, separated by commas, as in 443,8000-8100,53/udp. Ports are TCP ports unless written with /udp, udp/ or after nmap\'s U:' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l port -d 'Check these ports, written as for --allow, instead of the ports that the doors open' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -s c -l config -d 'The configuration file with the doors, whose `open` and commands name the ports; by default /etc/knockd.conf, or none with --port' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l from -d 'The address that knocks; by default an address that no rule names' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l chain -d 'The chain of iptables\' table `filter` to which doors add their rules: without a configuration (by default PORTKNOCK), or for commands that the check cannot interpret' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l explain -d 'Explain before each rule what breaks without it'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l check -d 'Print no rules, but check whether a knock would open the ports of the doors in the active packet filter (needs root)'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand status" -l format -d 'Output format' -r -f -a "text\t'For people'
json\t'For programs'
prometheus\t'For Prometheus'"
complete -c portknock -n "__fish_portknock_using_subcommand status" -l socket -d 'The daemon\'s control socket, as ControlSocket in its configuration names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand close" -l socket -d 'The daemon\'s control socket, as ControlSocket in its configuration names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand close" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand reload" -l socket -d 'The daemon\'s control socket, as ControlSocket in its configuration names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand reload" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand events" -l socket -d 'The daemon\'s control socket, as ControlSocket in its configuration names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand events" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "check" -d 'Report the errors and warnings of a configuration, or fix it'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "replay" -d 'Show the events that the packets of a capture file would have caused, without running commands'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "keygen" -d 'Make a client\'s key, for knocks that open nothing when they are recorded and sent again'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "sequence" -d 'Print the time sequence of this moment, for any program that knocks'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "knock" -d 'Knock on ports in order, or by a key, to make a port-knocking server open a door'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "probe" -d 'Show which ports of a host are open, closed or filtered'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "rules" -d 'Print a packet filter for a host whose ports are protected by doors, or check the active one'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "status" -d 'Show the doors, the openings and the counters of the running daemon'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "close" -d 'Close a door for an address now, before its time is over'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "reload" -d 'Make the running daemon read its configuration again'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "events" -d 'Print the events of the running daemon as they happen, as lines of JSON'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay keygen sequence knock probe rules status close reload events help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
