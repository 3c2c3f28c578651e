/* Prints the events of a capture file as `portknock replay --format json` does: first by a replay,
 * then, after a line `--`, by an engine that libpcap feeds. Arguments: a configuration, a capture,
 * and addresses of the machine. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <inttypes.h>
#include <stdbool.h>
#include <pcap/pcap.h>

static void print_text(const char *text) {
    putchar('"');
    for (; *text != 0; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            printf("\\%c", byte);
        } else if (byte == '\t') {
            printf("\\t");
        } else {
            putchar(byte);
        }
    }
    putchar('"');
}

static void print_command(const char *name, const char *command) {
    printf(",\"%s\":", name);
    if (command != NULL) {
        print_text(command);
    } else {
        printf("null");
    }
}

static void print_opening(const portknock_event *event) {
    printf(",\"ports\":[");
    for (size_t i = 0; i < event->port_count; i++) {
        const portknock_open_port *port = &event->ports[i];
        printf("%s\"%s/%" PRIu32 "\"", i > 0 ? "," : "", port->protocol == PORTKNOCK_UDP ? "udp" : "tcp", port->port);
    }
    printf("],\"closes_at\":");
    if (event->closes_at_ns > 0) {
        printf("%" PRIu64 ".%09" PRIu64, event->closes_at_ns / 1000000000, event->closes_at_ns % 1000000000);
    } else {
        printf("null");
    }
}

static void print_event(const portknock_event *event) {
    printf("{\"time\":%" PRIu64 ".%09" PRIu64 ",\"event\":\"%s\",\"door\":", event->time_ns / 1000000000,
           event->time_ns % 1000000000, portknock_event_kind_name(event->kind));
    print_text(event->door);
    printf(",\"ip\":\"%s\"", event->ip);
    CHECK(event->family == (strchr(event->ip, ':') != NULL ? 6 : 4));
    bool opens = event->kind == PORTKNOCK_EVENT_OPEN || event->kind == PORTKNOCK_EVENT_EXTEND ||
                 event->kind == PORTKNOCK_EVENT_CLOSE;
    CHECK((event->net != NULL) == opens);
    if (event->net != NULL) {
        printf(",\"net\":\"%s\"", event->net);
    }
    if (event->stage != 0) {
        printf(",\"stage\":%" PRIu32, event->stage);
    }
    if (event->steps != 0) {
        printf(",\"steps\":%" PRIu32, event->steps);
    }
    switch (event->kind) {
    case PORTKNOCK_EVENT_EXTEND:
        print_command("stop_command", event->stop_command);
        print_command("command", event->command);
        break;
    case PORTKNOCK_EVENT_OPEN:
    case PORTKNOCK_EVENT_CLOSE:
        print_command("command", event->command);
        break;
    default:
        CHECK(event->command == NULL);
    }
    if (event->reason != PORTKNOCK_FAIL_NONE) {
        printf(",\"reason\":\"%s\"", portknock_fail_reason_name(event->reason));
    }
    if (event->kind == PORTKNOCK_EVENT_OPEN || event->kind == PORTKNOCK_EVENT_EXTEND ||
        event->kind == PORTKNOCK_EVENT_CLOSE) {
        print_opening(event);
    } else {
        CHECK(event->port_count == 0 && event->closes_at_ns == 0);
    }
    printf("}\n");
}

static void by_replay(const portknock_config *config, char **argv, size_t locals) {
    portknock_error *error = NULL;
    portknock_replay *replay = NULL;
    const portknock_event *event;
    const char *const *local = locals > 0 ? (const char *const *)argv + 3 : NULL;
    OK(portknock_replay_open(config, argv[2], local, locals, &replay, &error));
    portknock_status status;
    while ((status = portknock_replay_next(replay, &event, &error)) == PORTKNOCK_OK) {
        print_event(event);
    }
    CHECK(event == NULL);
    if (status != PORTKNOCK_END) {
        CHECK(status == PORTKNOCK_ERR_FILE);
        CHECK_TEXT(portknock_error_file(error), argv[2]);
        fprintf(stderr, "portknock: %s\n", portknock_error_message(error));
        portknock_error_free(error);
    }
    /* The end stays the end. */
    CHECK(portknock_replay_next(replay, &event, &error) == PORTKNOCK_END && error == NULL);
    portknock_replay_free(replay);
}

static void by_engine(const portknock_config *config, char **argv, size_t locals) {
    char message[PCAP_ERRBUF_SIZE];
    portknock_error *error = NULL;
    portknock_engine *engine = NULL;
    struct pcap_pkthdr *header;
    const u_char *data;
    pcap_t *capture = pcap_open_offline_with_tstamp_precision(argv[2], PCAP_TSTAMP_PRECISION_NANO, message);
    CHECK(capture != NULL);
    OK(portknock_engine_new(config, &engine, &error));
    if (locals > 0) {
        OK(portknock_engine_set_local_addresses(engine, (const char *const *)argv + 3, locals, &error));
    }
    while (pcap_next_ex(capture, &header, &data) == 1) {
        uint64_t time = (uint64_t)header->ts.tv_sec * 1000000000 + (uint64_t)header->ts.tv_usec;
        OK(portknock_engine_feed(engine, pcap_datalink(capture), time, data, header->caplen, &error));
        const portknock_event *event;
        while (portknock_engine_next_event(engine, &event) == PORTKNOCK_OK) {
            print_event(event);
        }
    }
    pcap_close(capture);
    portknock_engine_free(engine);
}

static void misuse(const portknock_config *config, char **argv) {
    portknock_error *error = NULL;
    portknock_replay *replay = NULL;
    const portknock_event *event;
    const char *wrong[] = {"x"};
    FAILS(portknock_replay_open(NULL, argv[2], NULL, 0, &replay, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    FAILS(portknock_replay_open(config, NULL, NULL, 0, &replay, &error), PORTKNOCK_ERR_ARGUMENT, "path is NULL");
    FAILS(portknock_replay_open(config, argv[2], NULL, 0, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "replay is NULL");
    FAILS(portknock_replay_open(config, argv[2], wrong, 1, &replay, &error), PORTKNOCK_ERR_ARGUMENT, "not an IP address");
    FAILS(portknock_replay_open(config, argv[1], NULL, 0, &replay, &error), PORTKNOCK_ERR_FILE, "capture file");
    FAILS(portknock_replay_next(NULL, &event, &error), PORTKNOCK_ERR_ARGUMENT, "replay is NULL");
    OK(portknock_replay_open(config, argv[2], NULL, 0, &replay, &error));
    FAILS(portknock_replay_next(replay, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "event is NULL");
    portknock_replay_free(replay);
    portknock_replay_free(NULL);
}

int main(int argc, char **argv) {
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    CHECK(argc >= 3);
    OK(portknock_config_load(argv[1], &config, &error));
    by_replay(config, argv, (size_t)argc - 3);
    puts("--");
    by_engine(config, argv, (size_t)argc - 3);
    misuse(config, argv);
    portknock_config_free(config);
    return 0;
}
