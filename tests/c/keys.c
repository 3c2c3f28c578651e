/* Time sequences and packets of a client with a key: their making, an engine that judges them, and a
 * knock on the loopback interface. Argument: a directory for files. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
/* The key of 32 bytes that count from 0. */
#define KEY "pk1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jDQ"

static const char *directory;

static const char *path(const char *name) {
    static char text[4][300];
    static int next;
    next = (next + 1) % 4;
    snprintf(text[next], sizeof text[next], "%s/%s", directory, name);
    return text[next];
}

static void write_file(const char *name, const char *text, mode_t mode) {
    int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC, mode);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(fchmod(fd, mode) == 0 && close(fd) == 0);
}

static void sequences(void) {
    portknock_error *error = NULL;
    char text[PORTKNOCK_SEQUENCE_SIZE];
    OK(portknock_sequence(path("time.key"), 59 * SECOND, text, sizeof text, &error));
    CHECK_TEXT(text, "16082,22333,13614,17533,45696");
    OK(portknock_sequence(path("both.key"), 59 * SECOND, text, sizeof text, &error));
    CHECK_TEXT(text, "16082,22333,13614,17533:udp,45696:udp");
    OK(portknock_sequence(path("time.key"), UINT64_C(8589934592) * SECOND, text, 30, &error));
    CHECK_TEXT(text, "29466,21898,37186,1424,5730");
    OK(portknock_sequence(path("time.key"), 0, text, sizeof text, NULL));
    CHECK(strlen(text) > 20);

    FAILS(portknock_sequence(path("time.key"), 59 * SECOND, text, 29, &error), PORTKNOCK_ERR_ARGUMENT,
          "text has 29 bytes, but 30 are needed");
    CHECK(text[0] == 0);
    FAILS(portknock_sequence(path("time.key"), 0, text, 0, &error), PORTKNOCK_ERR_ARGUMENT, "text has 0 bytes");
    FAILS(portknock_sequence(path("time.key"), 0, NULL, 80, &error), PORTKNOCK_ERR_ARGUMENT, "text is NULL");
    FAILS(portknock_sequence(path("time.key"), 0, text, SIZE_MAX, &error), PORTKNOCK_ERR_ARGUMENT, "cannot have");
    FAILS(portknock_sequence(NULL, 0, text, sizeof text, &error), PORTKNOCK_ERR_ARGUMENT, "key_file is NULL");
    FAILS(portknock_sequence(path("none"), 0, text, sizeof text, &error), PORTKNOCK_ERR_FILE, "cannot read");
    FAILS(portknock_sequence(path("wrong.key"), 0, text, sizeof text, &error), PORTKNOCK_ERR_FILE, "wrong.key:2: ");
    CHECK(portknock_sequence(path("open.key"), 0, text, sizeof text, &error) == PORTKNOCK_ERR_FILE);
    CHECK_TEXT(portknock_error_file(error), path("open.key"));
    CHECK(strstr(portknock_error_message(error), "other users can read it; run chmod 600 ") != NULL);
    CHECK(strstr(portknock_error_message(error), "AAECAw") == NULL);
    portknock_error_free(error);
}

static void packets(void) {
    portknock_error *error = NULL;
    uint8_t packet[PORTKNOCK_PACKET_SIZE + 1], other[PORTKNOCK_PACKET_SIZE];
    static const uint8_t hint[8] = {0xf5, 0x50, 0x8a, 0x0d, 0xfc, 0x2b, 0x94, 0xbb};
    static const uint8_t zero[PORTKNOCK_PACKET_SIZE] = {0};
    uint64_t time = UINT64_C(1796030418) * SECOND;
    OK(portknock_packet(path("packet.key"), NULL, 0, time, packet, sizeof packet, &error));
    CHECK(memcmp(packet, hint, sizeof hint) == 0 && packet[PORTKNOCK_PACKET_SIZE] == 0);
    OK(portknock_packet(path("packet.key"), "2001:db8::7", 30, time, other, sizeof other, &error));
    CHECK(memcmp(packet, other, sizeof hint) == 0 && memcmp(packet, other, sizeof other) != 0);
    OK(portknock_packet(path("packet.key"), "192.0.2.7", 0, 0, other, sizeof other, NULL));

    FAILS(portknock_packet(path("packet.key"), "here", 0, 0, other, sizeof other, &error), PORTKNOCK_ERR_ARGUMENT,
          "address is not an IP address: here");
    CHECK(memcmp(other, zero, sizeof other) == 0);
    FAILS(portknock_packet(path("packet.key"), NULL, 0, 0, other, sizeof other - 1, &error), PORTKNOCK_ERR_ARGUMENT,
          "packet has 95 bytes, but 96 are needed");
    FAILS(portknock_packet(path("packet.key"), NULL, 0, 0, NULL, 96, &error), PORTKNOCK_ERR_ARGUMENT, "packet is NULL");
    FAILS(portknock_packet(path("time.key"), NULL, 0, 0, other, sizeof other, &error), PORTKNOCK_ERR_FILE,
          "packets need the name of a door");
    FAILS(portknock_packet(path("none"), NULL, 0, 0, other, sizeof other, &error), PORTKNOCK_ERR_FILE, "cannot read");
}

static const portknock_event *next(portknock_engine *engine) {
    const portknock_event *event = NULL;
    return portknock_engine_next_event(engine, &event) == PORTKNOCK_OK ? event : NULL;
}

/* Feeds the engine with a datagram to port 62201. */
static void feed(portknock_engine *engine, uint64_t time_ns, const uint8_t *packet) {
    portknock_error *error = NULL;
    uint8_t frame[FRAME_LENGTH + PORTKNOCK_PACKET_SIZE];
    make_frame(frame, 7, 62201);
    frame[17] = 28 + PORTKNOCK_PACKET_SIZE;
    frame[39] = 8 + PORTKNOCK_PACKET_SIZE;
    memcpy(frame + FRAME_LENGTH, packet, PORTKNOCK_PACKET_SIZE);
    OK(portknock_engine_feed(engine, PORTKNOCK_LINKTYPE_ETHERNET, time_ns, frame, sizeof frame, &error));
}

static portknock_engine *engine_for(const char *door) {
    char text[1000];
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    portknock_engine *engine = NULL;
    snprintf(text, sizeof text, "[ssh]\n%s\nkeys = %s\ncommand = open %%IP%%\n", door, path("server.keys"));
    OK(portknock_config_parse(text, strlen(text), NULL, &config, &error));
    /* The keys are loaded, and not shown. */
    CHECK(strstr(portknock_config_json(config), "AAECAw") == NULL);
    OK(portknock_engine_new(config, &engine, &error));
    portknock_config_free(config);
    return engine;
}

static void an_engine_judges_packets(void) {
    portknock_error *error = NULL;
    uint8_t packet[PORTKNOCK_PACKET_SIZE];
    uint64_t time = UINT64_C(1796030418) * SECOND;
    portknock_engine *engine = engine_for("packet = portknock");
    OK(portknock_packet(path("packet.key"), NULL, 0, time, packet, sizeof packet, &error));
    feed(engine, time, packet);
    const portknock_event *event = next(engine);
    CHECK(event != NULL && event->kind == PORTKNOCK_EVENT_OPEN && event->refusal == PORTKNOCK_REFUSAL_NONE);
    CHECK_TEXT(event->key, "alice");
    CHECK_TEXT(event->command, "open 192.0.2.7");
    /* The same packet again. */
    feed(engine, time + SECOND, packet);
    event = next(engine);
    CHECK(event != NULL && event->kind == PORTKNOCK_EVENT_REFUSED && event->refusal == PORTKNOCK_REFUSAL_REPLAY);
    CHECK_TEXT(portknock_event_kind_name(event->kind), "refused");
    CHECK_TEXT(portknock_refusal_reason_name(event->refusal), "replay");
    CHECK_TEXT(event->key, "alice");
    CHECK(event->clock_offset == 0 && event->command == NULL && next(engine) == NULL);

    /* The engine's clock is another one than the wall clock. */
    OK(portknock_engine_set_wall_clock(engine, time + 120 * SECOND, time + 2 * SECOND, &error));
    OK(portknock_packet(path("packet.key"), "2001:db8::7", 0, time + 121 * SECOND, packet, sizeof packet, &error));
    feed(engine, time + 3 * SECOND, packet);
    event = next(engine);
    CHECK(event != NULL && event->kind == PORTKNOCK_EVENT_OPEN && event->time_ns == time + 3 * SECOND);
    CHECK_TEXT(event->ip, "2001:db8::7");

    /* A client whose clock is 110 s slow. */
    OK(portknock_packet(path("packet.key"), NULL, 0, time + 14 * SECOND, packet, sizeof packet, &error));
    feed(engine, time + 6 * SECOND, packet);
    for (uint64_t second = 7; (event = next(engine)) == NULL && second < 30; second++) {
        OK(portknock_engine_advance(engine, time + second * SECOND, &error));
    }
    CHECK(event != NULL && event->kind == PORTKNOCK_EVENT_REFUSED && event->refusal == PORTKNOCK_REFUSAL_CLOCK);
    CHECK(event->clock_offset <= -109 && event->clock_offset >= -111);
    CHECK_TEXT(portknock_refusal_reason_name(event->refusal), "clock");
    portknock_engine_free(engine);
    FAILS(portknock_engine_set_wall_clock(NULL, 0, 0, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
}

static void an_engine_judges_time_sequences(void) {
    uint64_t time = UINT64_C(1796030418) * SECOND;
    portknock_engine *engine = engine_for("sequence = time\ntime_protocols = udp\nseq_timeout = 10");
    char text[PORTKNOCK_SEQUENCE_SIZE];
    portknock_error *error = NULL;
    for (int round = 0; round < 2; round++) {
        OK(portknock_sequence(path("udp.key"), time, text, sizeof text, &error));
        for (char *port = strtok(text, ","); port != NULL; port = strtok(NULL, ",")) {
            uint8_t frame[FRAME_LENGTH];
            make_frame(frame, 8, atoi(port));
            OK(portknock_engine_feed(engine, PORTKNOCK_LINKTYPE_ETHERNET, time, frame, sizeof frame, &error));
        }
        int opened = 0;
        for (const portknock_event *event; (event = next(engine)) != NULL;) {
            if (event->kind == PORTKNOCK_EVENT_OPEN) {
                CHECK_TEXT(event->key, "alice");
                opened++;
            } else {
                CHECK(event->kind != PORTKNOCK_EVENT_EXTEND);
            }
        }
        CHECK(opened == (round == 0));
    }
    portknock_engine_free(engine);
}

static void errors_of_key_files_are_those_of_the_configuration(void) {
    char text[1000];
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    snprintf(text, sizeof text, "[ssh]\nsequence = time\nkeys = %s\ncommand = x\n", path("wrong.keys"));
    FAILS(portknock_config_parse(text, strlen(text), NULL, &config, &error), PORTKNOCK_ERR_CONFIG, "wrong.keys:1: ");
    CHECK(config == NULL);
}

static void knocks(void) {
    portknock_error *error = NULL;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    char text[1000];
    uint8_t packet[200];
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    snprintf(text, sizeof text, "name = alice\nkey = %s\nform = packet\ndoor = ssh\nport = %d\nserver = 127.0.0.1\n", KEY,
             ntohs(address.sin_port));
    write_file("loop.key", text, 0600);
    OK(portknock_knock_by_key(path("loop.key"), NULL, NULL, 0, NULL, &error));
    CHECK(recv(fd, packet, sizeof packet, 0) == PORTKNOCK_PACKET_SIZE);
    OK(portknock_knock_by_key(path("loop.key"), "127.0.0.1", "192.0.2.7", 30, NULL, &error));
    CHECK(recv(fd, packet, sizeof packet, 0) == PORTKNOCK_PACKET_SIZE);
    portknock_knock_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.then_port = 1027;
    options.wait_ms = 20;
    FAILS(portknock_knock_by_key(path("loop.key"), NULL, NULL, 0, &options, &error), PORTKNOCK_ERR_NOT_OPEN,
          "port 1027 of 127.0.0.1 did not open");
    CHECK(recv(fd, packet, sizeof packet, 0) == PORTKNOCK_PACKET_SIZE);
    close(fd);
    OK(portknock_knock_by_key(path("time.key"), "127.0.0.1", NULL, 0, NULL, &error));
    FAILS(portknock_knock_by_key(path("time.key"), NULL, NULL, 0, NULL, &error), PORTKNOCK_ERR_ARGUMENT,
          "host is NULL, and the client's file names no server");
    FAILS(portknock_knock_by_key(path("time.key"), "127.0.0.1", NULL, 1, NULL, &error), PORTKNOCK_ERR_ARGUMENT,
          "address and seconds are for packets");
    FAILS(portknock_knock_by_key(path("none"), "127.0.0.1", NULL, 0, NULL, &error), PORTKNOCK_ERR_FILE, "cannot read");
    FAILS(portknock_knock_by_key(NULL, "127.0.0.1", NULL, 0, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "key_file is NULL");
    options.reserved = 1;
    FAILS(portknock_knock_by_key(path("time.key"), "127.0.0.1", NULL, 0, &options, &error), PORTKNOCK_ERR_ARGUMENT,
          "reserved");
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    directory = argv[1];
    write_file("time.key", "name = alice\nkey = " KEY "\n", 0600);
    write_file("both.key", "name = alice\nkey = " KEY "\ntime_protocols = both\n", 0600);
    write_file("udp.key", "name = alice\nkey = " KEY "\ntime_protocols = udp\n", 0600);
    write_file("packet.key", "name = alice\nkey = " KEY "\nform = packet\ndoor = ssh\n", 0600);
    write_file("wrong.key", "name = alice\nkey = " KEY "x\n", 0600);
    write_file("open.key", "name = alice\nkey = " KEY "\n", 0644);
    write_file("server.keys", "alice " KEY "\n", 0640);
    write_file("wrong.keys", "alice " KEY "x\n", 0640);
    sequences();
    packets();
    an_engine_judges_packets();
    an_engine_judges_time_sequences();
    errors_of_key_files_are_those_of_the_configuration();
    knocks();
    return 0;
}
