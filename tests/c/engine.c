/* The engine: events, times, invalid arguments, events that are read too late, and threads. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

#define SECOND UINT64_C(1000000000)
static const char *CONFIG =
    "[ssh]\nsequence = 7000:udp,8000:udp\nseq_timeout = 5\nstart_command = open %IP%\nstop_command = close %IP%\n"
    "cmd_timeout = 10\n";

static portknock_engine *engine_for(const char *text) {
    portknock_error *error = NULL;
    portknock_engine *engine = NULL;
    portknock_config *config = parse(text);
    OK(portknock_engine_new(config, &engine, &error));
    /* The engine does not need it. */
    portknock_config_free(config);
    return engine;
}

static void knock(portknock_engine *engine, uint64_t seconds, int source, int port) {
    portknock_error *error = NULL;
    uint8_t frame[FRAME_LENGTH];
    make_frame(frame, source, port);
    OK(portknock_engine_feed(engine, PORTKNOCK_LINKTYPE_ETHERNET, seconds * SECOND, frame, sizeof frame, &error));
}

static const portknock_event *next(portknock_engine *engine) {
    const portknock_event *event = NULL;
    return portknock_engine_next_event(engine, &event) == PORTKNOCK_OK ? event : NULL;
}

/* None, or tcp/22 and udp/65535. */
static int has_ports(const portknock_event *event, size_t count) {
    return event->port_count == count && event->ports != NULL &&
           (count == 0 || (event->ports[0].protocol == PORTKNOCK_TCP && event->ports[0].port == 22 &&
                           event->ports[1].protocol == PORTKNOCK_UDP && event->ports[1].port == 65535));
}

static void ports_are_opened_without_a_command(void) {
    portknock_error *error = NULL;
    portknock_engine *engine = engine_for("[vpn]\nsequence = 7000:udp\nopen = tcp/22,udp/65535\ncmd_timeout = 10\n");
    const portknock_event *event;
    knock(engine, 1, 7, 7000);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_STAGE && has_ports(event, 0) && event->closes_at_ns == 0);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_OPEN && event->command == NULL);
    CHECK(has_ports(event, 2) && event->closes_at_ns == 11 * SECOND);
    knock(engine, 4, 7, 7000);
    CHECK(has_ports(next(engine), 0));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_EXTEND && event->command == NULL);
    CHECK(has_ports(event, 2) && event->closes_at_ns == 14 * SECOND);
    OK(portknock_engine_advance(engine, 14 * SECOND, &error));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_CLOSE && event->command == NULL && event->time_ns == 14 * SECOND);
    CHECK(has_ports(event, 2) && event->closes_at_ns == 14 * SECOND);
    knock(engine, 20, 7, 7000);
    CHECK(next(engine) != NULL && next(engine) != NULL);
    OK(portknock_engine_close_all(engine, 21 * SECOND, &error));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_CLOSE && event->time_ns == 21 * SECOND && event->closes_at_ns == 30 * SECOND);
    portknock_engine_free(engine);

    /* A door that stays open, and as many ports as a door can have. */
    char text[2000] = "[stays]\nsequence = 7000:udp\ncommand = x\n[all]\nsequence = 8000:udp\nopen = tcp/1";
    for (int port = 2; port <= 64; port++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), ",tcp/%d", port);
    }
    engine = engine_for(text);
    knock(engine, 1, 7, 7000);
    CHECK(next(engine) != NULL);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_OPEN && has_ports(event, 0) && event->closes_at_ns == 0);
    const portknock_open_port *early = event->ports;
    knock(engine, 1, 7, 8000);
    CHECK(next(engine) != NULL);
    event = next(engine);
    CHECK(event->port_count == 64 && event->ports[63].protocol == PORTKNOCK_TCP && event->ports[63].port == 64);
    /* The pointer from the first event shows the ports of the last one. */
    CHECK(early[63].port == 64);
    portknock_engine_free(engine);
}

static void a_door_opens_and_closes(void) {
    portknock_error *error = NULL;
    portknock_engine *engine = engine_for(CONFIG);
    const portknock_event *event = (const portknock_event *)8;
    uint64_t due = 1;
    CHECK(portknock_engine_next_event(engine, &event) == PORTKNOCK_END && event == NULL);
    CHECK(portknock_engine_next_timeout(engine, &due) == PORTKNOCK_END && due == 0);
    knock(engine, 1, 7, 7000);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_STAGE && event->stage == 1 && event->steps == 2);
    CHECK(event->time_ns == SECOND && event->family == 4 && event->command == NULL && event->message == NULL);
    CHECK_TEXT(event->door, "ssh");
    CHECK_TEXT(event->ip, "192.0.2.7");
    CHECK(portknock_engine_next_timeout(engine, &due) == PORTKNOCK_OK && due == 6 * SECOND);
    knock(engine, 2, 7, 8000);
    CHECK(next(engine)->stage == 2);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_OPEN && event->stage == 0);
    CHECK_TEXT(event->command, "open 192.0.2.7");
    CHECK_TEXT(portknock_event_kind_name(event->kind), "open");
    CHECK(next(engine) == NULL);
    CHECK(portknock_engine_next_timeout(engine, &due) == PORTKNOCK_OK && due == 12 * SECOND);
    OK(portknock_engine_advance(engine, due, &error));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_CLOSE && event->time_ns == due);
    CHECK_TEXT(event->command, "close 192.0.2.7");
    portknock_engine_free(engine);
}

static void other_events(void) {
    portknock_error *error = NULL;
    char two[1000];
    snprintf(two, sizeof two, "%s[web]\nsequence = 9000:udp,9001:udp\ncommand = x\n", CONFIG);
    portknock_engine *engine = engine_for(two);
    knock(engine, 1, 7, 7000);
    knock(engine, 1, 8, 7000);
    knock(engine, 2, 8, 9001);
    CHECK(next(engine)->stage == 1 && next(engine)->stage == 1);
    const portknock_event *event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_FAIL && event->reason == PORTKNOCK_FAIL_WRONG_PORT && event->stage == 1);
    CHECK_TEXT(portknock_fail_reason_name(event->reason), "wrong-port");
    CHECK_TEXT(event->ip, "192.0.2.8");
    while (next(engine) != NULL) {
    }
    OK(portknock_engine_advance(engine, 6 * SECOND, &error));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_TIMEOUT && event->stage == 1 && event->reason == PORTKNOCK_FAIL_NONE);
    portknock_engine_free(engine);

    /* A reload closes no opening; close_all closes all of them immediately. */
    engine = engine_for(CONFIG);
    knock(engine, 1, 7, 7000);
    knock(engine, 1, 7, 8000);
    knock(engine, 2, 7, 7000);
    knock(engine, 2, 7, 8000);
    knock(engine, 3, 7, 7000);
    int kinds[16], count = 0;
    while ((event = next(engine)) != NULL) {
        kinds[count++] = event->kind;
    }
    CHECK(count == 7 && kinds[2] == PORTKNOCK_EVENT_OPEN && kinds[5] == PORTKNOCK_EVENT_EXTEND);
    portknock_config *other = parse("[other]\nsequence = 1:udp,2:udp\ncommand = x\n");
    OK(portknock_engine_reload(engine, other, 3 * SECOND, &error));
    portknock_config_free(other);
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_FAIL && event->reason == PORTKNOCK_FAIL_RELOAD);
    CHECK(next(engine) == NULL);
    OK(portknock_engine_close_all(engine, 4 * SECOND, &error));
    event = next(engine);
    CHECK(event->kind == PORTKNOCK_EVENT_CLOSE && event->time_ns == 4 * SECOND);
    CHECK(next(engine) == NULL);
    portknock_engine_free(engine);
}

static void local_addresses(void) {
    portknock_error *error = NULL;
    portknock_engine *engine = engine_for(CONFIG);
    const char *other[] = {"fd00::1", "192.0.2.99"};
    const char *own[] = {"192.0.2.1"};
    const char *wrong[] = {"192.0.2.1", "here"};
    const char *hole[] = {"192.0.2.1", NULL};
    OK(portknock_engine_set_local_addresses(engine, other, 2, &error));
    knock(engine, 1, 7, 7000);
    CHECK(next(engine) == NULL);
    OK(portknock_engine_set_local_addresses(engine, own, 1, &error));
    FAILS(portknock_engine_set_local_addresses(engine, wrong, 2, &error), PORTKNOCK_ERR_ARGUMENT, "here");
    FAILS(portknock_engine_set_local_addresses(engine, hole, 2, &error), PORTKNOCK_ERR_ARGUMENT, "[1] is NULL");
    FAILS(portknock_engine_set_local_addresses(engine, NULL, 1, &error), PORTKNOCK_ERR_ARGUMENT, "is NULL");
    knock(engine, 1, 7, 7000);
    CHECK(next(engine) != NULL);
    /* No local addresses, and all. */
    OK(portknock_engine_set_local_addresses(engine, own, 0, &error));
    knock(engine, 1, 7, 8000);
    CHECK(next(engine) == NULL);
    OK(portknock_engine_set_local_addresses(engine, NULL, 0, &error));
    knock(engine, 1, 7, 8000);
    CHECK(next(engine) != NULL);
    portknock_engine_free(engine);
}

static void misuse(void) {
    portknock_error *error = NULL;
    portknock_engine *engine = NULL;
    portknock_config *config = parse(CONFIG);
    const portknock_event *event = NULL;
    uint64_t due = 0;
    uint8_t frame[FRAME_LENGTH];
    make_frame(frame, 7, 7000);
    FAILS(portknock_engine_new(NULL, &engine, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    FAILS(portknock_engine_new(config, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
    /* An invalid pointer. */
    FAILS(portknock_engine_feed((portknock_engine *)(uintptr_t)3, 1, 0, frame, 0, &error), PORTKNOCK_ERR_ARGUMENT,
          "engine is not aligned");
    CHECK(portknock_engine_advance(NULL, 0, (portknock_error **)(uintptr_t)3) == PORTKNOCK_ERR_ARGUMENT);
    FAILS(portknock_engine_feed(NULL, 1, 0, frame, sizeof frame, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
    FAILS(portknock_engine_advance(NULL, 0, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
    FAILS(portknock_engine_reload(NULL, config, 0, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
    FAILS(portknock_engine_close_all(NULL, 0, &error), PORTKNOCK_ERR_ARGUMENT, "engine is NULL");
    CHECK(portknock_engine_next_event(NULL, &event) == PORTKNOCK_ERR_ARGUMENT);
    CHECK(portknock_engine_next_timeout(NULL, &due) == PORTKNOCK_ERR_ARGUMENT);
    OK(portknock_engine_new(config, &engine, &error));
    FAILS(portknock_engine_feed(engine, 105, 0, frame, sizeof frame, &error), PORTKNOCK_ERR_LINK_TYPE, "105");
    FAILS(portknock_engine_feed(engine, 1, 0, NULL, 1, &error), PORTKNOCK_ERR_ARGUMENT, "data is NULL");
    FAILS(portknock_engine_feed(engine, 1, 0, frame, SIZE_MAX, &error), PORTKNOCK_ERR_ARGUMENT, "data cannot have");
    FAILS(portknock_engine_reload(engine, NULL, 0, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    CHECK(portknock_engine_next_event(engine, NULL) == PORTKNOCK_ERR_ARGUMENT);
    CHECK(portknock_engine_next_timeout(engine, NULL) == PORTKNOCK_ERR_ARGUMENT);
    /* Frames cut anywhere, at times in any order. */
    for (size_t length = 0; length <= sizeof frame; length++) {
        OK(portknock_engine_feed(engine, 1, (50 - length) * SECOND, length > 0 ? frame : NULL, length, &error));
    }
    CHECK(next(engine)->time_ns == 50 * SECOND);
    portknock_engine_free(engine);
    portknock_engine_free(NULL);
    portknock_config_free(config);
    CHECK_TEXT(portknock_event_kind_name(0), "unknown");
    CHECK_TEXT(portknock_fail_reason_name(99), "unknown");
}

/* An event that is read after its handle has advanced contains the data of another event, in valid
 * memory. */
static void what_is_read_too_late(void) {
    char text[3000];
    snprintf(text, sizeof text, "[a]\nsequence = 1:udp\ncommand = %02000d %%IP%%\n[b]\nsequence = 2:udp\ncommand = x\n", 7);
    portknock_engine *engine = engine_for(text);
    knock(engine, 1, 200, 2);
    CHECK(next(engine) != NULL);
    const portknock_event *early = next(engine);
    const char *early_command = early->command;
    CHECK_TEXT(early_command, "x");
    knock(engine, 2, 9, 1);
    CHECK(next(engine) != NULL && next(engine) != NULL);
    CHECK(next(engine) == NULL);
    CHECK_TEXT(early->door, "a");
    CHECK_TEXT(early->ip, "192.0.2.9");
    CHECK(strlen(early->command) > 2000);
    CHECK_TEXT(early_command, "x");
    portknock_engine_free(engine);
}

#define THREADS 4
#define KNOCKS 2000
static portknock_engine *shared;

static void *knock_often(void *number) {
    for (int i = 0; i < KNOCKS; i++) {
        knock(shared, 1, 1 + (int)(intptr_t)number, i % 2 == 0 ? 7000 : 8000);
        uint64_t due;
        CHECK(portknock_engine_next_timeout(shared, &due) == PORTKNOCK_OK);
    }
    return NULL;
}

static void several_threads(void) {
    pthread_t threads[THREADS];
    shared = engine_for(CONFIG);
    for (intptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, knock_often, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    int opened = 0, extended = 0;
    const portknock_event *event;
    while ((event = next(shared)) != NULL) {
        opened += event->kind == PORTKNOCK_EVENT_OPEN;
        extended += event->kind == PORTKNOCK_EVENT_EXTEND;
    }
    CHECK(opened == THREADS && opened + extended == THREADS * KNOCKS / 2);
    portknock_engine_free(shared);
}

int main(void) {
    a_door_opens_and_closes();
    ports_are_opened_without_a_command();
    other_events();
    local_addresses();
    misuse();
    what_is_read_too_late();
    several_threads();
    return 0;
}
