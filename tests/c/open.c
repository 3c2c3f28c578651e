/* A program that opens and closes the ports of doors from the events alone; the listener runs no
 * commands. Argument: a configuration with an interface. Ends after the first door has closed. */
#include "check.h"

/* Adds or removes a rule for each port of the event. */
static void set_ports(const portknock_event *event, const char *action) {
    for (size_t i = 0; i < event->port_count; i++) {
        const portknock_open_port *port = &event->ports[i];
        char command[200];
        snprintf(command, sizeof command, "%s -w %s INPUT -s %s -p %s --dport %u -j ACCEPT",
                 event->family == 6 ? "ip6tables" : "iptables", action, event->ip,
                 port->protocol == PORTKNOCK_UDP ? "udp" : "tcp", (unsigned)port->port);
        CHECK(system(command) == 0);
        printf("%s\n", command);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    portknock_listener *listener = NULL;
    const portknock_event *event = NULL;
    uint64_t closes_at_ns = 0;
    CHECK(argc == 2);
    OK(portknock_config_load(argv[1], &config, &error));
    OK(portknock_listener_open(config, NULL, &listener, &error));
    portknock_config_free(config);
    printf("listening\n");
    fflush(stdout);
    for (int closed = 0; !closed;) {
        OK(portknock_listener_next(listener, -1, &event, &error));
        switch (event->kind) {
        case PORTKNOCK_EVENT_OPEN:
            set_ports(event, "-I");
            closes_at_ns = event->closes_at_ns;
            break;
        case PORTKNOCK_EVENT_EXTEND:
            CHECK(event->closes_at_ns > closes_at_ns);
            closes_at_ns = event->closes_at_ns;
            break;
        case PORTKNOCK_EVENT_CLOSE:
            CHECK(event->time_ns == closes_at_ns && event->closes_at_ns == closes_at_ns);
            set_ports(event, "-D");
            closed = 1;
            break;
        default:
            break;
        }
    }
    portknock_listener_free(listener);
    return 0;
}
