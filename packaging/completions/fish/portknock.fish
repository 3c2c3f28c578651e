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
complete -c portknock -n "__fish_portknock_needs_command" -f -a "check" -d 'Say what is wrong with a configuration, or mend it'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "replay" -d 'Show what the packets of a capture file would have done; nothing is run'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "knock" -d 'Knock on ports in order, so that a port-knocking server opens a door'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "probe" -d 'Show which ports of a host are open, closed or filtered'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "rules" -d 'Print a packet filter for a whole host behind doors, or check the one in force'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "status" -d 'Show what the running daemon holds and has counted'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "close" -d 'Close a door for an address now, instead of when its time is over'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "reload" -d 'Have the running daemon read its configuration again'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "events" -d 'Follow the events of the running daemon as they happen, as lines of JSON'
complete -c portknock -n "__fish_portknock_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portknock -n "__fish_portknock_using_subcommand check" -l format -d 'How to write the findings' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand check" -l fix -d 'Write the file with every machine-applicable fix applied to standard output'
complete -c portknock -n "__fish_portknock_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand replay" -s c -l config -d 'The configuration whose doors are knocked at' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand replay" -l local -d 'The addresses of the machine; without them any destination counts' -r
complete -c portknock -n "__fish_portknock_using_subcommand replay" -l format -d 'How to write the events' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s d -l delay -d 'Wait this many milliseconds after each knock' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l then -d 'After the knocks, wait until this TCP port is open; exit with 3 when it does not open' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l wait -d 'How many seconds the port may take to open after each time of knocking' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l retries -d 'Knock again, up to N times, when the port does not open' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l source -d 'Knock from this address of this machine' -r
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s u -l udp -d 'Send all knocks by UDP, whatever their PROTO (the default is TCP)'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s v -l verbose -d 'Tell of each knock on standard output'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l raw -d 'Send TCP knocks as bare SYNs through a raw socket (needs root or CAP_NET_RAW)'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -l all-addresses -d 'Knock at each address of the host, not only at the first'
complete -c portknock -n "__fish_portknock_using_subcommand knock" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l method -d 'How to probe TCP ports' -r -f -a "auto\t'By SYN where raw sockets are allowed, else by connect'
syn\t'By bare SYNs from a raw socket (needs root or CAP_NET_RAW)'
connect\t'By ordinary connections, which need no right'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l timeout -d 'How many seconds a port has to answer' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l retries -d 'Repeat each probe that is not answered N times, 9 at most; by default as often as the path\'s losses ask for' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l rate -d 'Send at most this many probes in a second; by default as many as the path carries' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l source -d 'Probe from this address of this machine' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l format -d 'How to write the results' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s p -l ports -d 'Probe these ports, written in the same way; without any, the most used ones' -r
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l expect -d 'Exit with 3 unless all ports have this state' -r -f -a "open\t'Something accepts connections, or answers'
closed\t'The host answers that nothing listens'
filtered\t'Nothing answers, or a firewall refuses; for UDP, too, only a refusal'"
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s u -l udp -d 'Probe UDP ports (the default is TCP). Those that do not answer are open|filtered'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l all-addresses -d 'Probe each address of the host, not only the first'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -l open -d 'Show open and open|filtered ports only'
complete -c portknock -n "__fish_portknock_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l style -d 'What happens to packets that nobody allowed' -r -f -a "reject\t'It is refused, as by a host on which nothing listens'
drop\t'It gets no answer, as from a host that is not there'"
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l format -d 'Which program loads the rule set' -r -f -a "nft\t'For nft -f, IPv4 and IPv6'
iptables\t'For iptables-restore, IPv4'
ip6tables\t'For ip6tables-restore, IPv6'"
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l allow -d 'Keep these ports open for everyone: ports, ranges and names of services with commas between, as in 443,8000-8100,53/udp; TCP\'s unless written with /udp, udp/ or behind nmap\'s U:' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l port -d 'Check these ports, written as for --allow, instead of those that the doors open' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -s c -l config -d 'The configuration whose doors are knocked at, with the ports that `open` and the commands name; by default /etc/knockd.conf, and with --port none' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l from -d 'The address that knocks; by default one that no rule names' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l chain -d 'The chain of iptables\' table `filter` in which a rule is assumed without a configuration, by default PORTKNOCK, and for commands that are not understood' -r
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l explain -d 'Say before each rule what breaks without it'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -l check -d 'Print no rules: read the packet filter that is in force and say whether a knock would open these ports (needs root)'
complete -c portknock -n "__fish_portknock_using_subcommand rules" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand status" -l format -d 'How to write the status' -r -f -a "text\t'For people'
json\t'For programs'
prometheus\t'For Prometheus'"
complete -c portknock -n "__fish_portknock_using_subcommand status" -l socket -d 'The daemon\'s control socket, as its configuration\'s ControlSocket names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c portknock -n "__fish_portknock_using_subcommand close" -l socket -d 'The daemon\'s control socket, as its configuration\'s ControlSocket names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand close" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand reload" -l socket -d 'The daemon\'s control socket, as its configuration\'s ControlSocket names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand reload" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand events" -l socket -d 'The daemon\'s control socket, as its configuration\'s ControlSocket names it' -r -F
complete -c portknock -n "__fish_portknock_using_subcommand events" -s h -l help -d 'Print help'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "check" -d 'Say what is wrong with a configuration, or mend it'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "replay" -d 'Show what the packets of a capture file would have done; nothing is run'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "knock" -d 'Knock on ports in order, so that a port-knocking server opens a door'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "probe" -d 'Show which ports of a host are open, closed or filtered'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "rules" -d 'Print a packet filter for a whole host behind doors, or check the one in force'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "status" -d 'Show what the running daemon holds and has counted'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "close" -d 'Close a door for an address now, instead of when its time is over'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "reload" -d 'Have the running daemon read its configuration again'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "events" -d 'Follow the events of the running daemon as they happen, as lines of JSON'
complete -c portknock -n "__fish_portknock_using_subcommand help; and not __fish_seen_subcommand_from check replay knock probe rules status close reload events help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
