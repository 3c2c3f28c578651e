/* A listener on the loopback interface of a network namespace. Argument: a writable directory. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static portknock_listener *listener;

static portknock_config *config_in(const char *directory, int first, int cmd_timeout) {
    char text[2000];
    snprintf(text, sizeof text,
             "[options]\ninterface = lo\nStateFile = %s/state/openings\n"
             "[front]\nsequence = %d:udp,8000:udp\nstart_command = echo open %%IP%% >>%s/out\n"
             "stop_command = echo close %%IP%% >>%s/out\ncmd_timeout = %d\n",
             directory, first, directory, directory, cmd_timeout);
    return parse(text);
}

static void open_listener(const portknock_config *config, int run_commands, int notices) {
    portknock_error *error = NULL;
    portknock_listener_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.run_commands = run_commands;
    options.notices = notices;
    OK(portknock_listener_open(config, &options, &listener, &error));
}

static void knock(const char *steps) {
    portknock_error *error = NULL;
    OK(portknock_knock("127.0.0.1", steps, NULL, &error));
}

static const portknock_event *next(int timeout_ms) {
    portknock_error *error = NULL;
    const portknock_event *event = NULL;
    portknock_status status = portknock_listener_next(listener, timeout_ms, &event, &error);
    CHECK(status == PORTKNOCK_END || status == PORTKNOCK_OK);
    CHECK((status == PORTKNOCK_OK) == (event != NULL) && error == NULL);
    return event;
}

static long long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* The caller runs the commands. */
static void events_without_commands(const char *directory) {
    char out[1000];
    portknock_config *config = config_in(directory, 7000, 1);
    open_listener(config, 0, 0);
    long long start = now_ms();
    CHECK(next(50) == NULL && now_ms() - start >= 49);
    knock("7000:udp,8000:udp");
    CHECK(next(10000)->stage == 1 && next(10000)->stage == 2);
    const portknock_event *event = next(10000);
    CHECK(event->kind == PORTKNOCK_EVENT_OPEN && event->time_ns > UINT64_C(1600000000000000000));
    CHECK(strncmp(event->command, "echo open 127.0.0.1 >>", 22) == 0);
    event = next(10000);
    CHECK(event->kind == PORTKNOCK_EVENT_CLOSE);
    CHECK(strncmp(event->command, "echo close 127.0.0.1 >>", 23) == 0);
    snprintf(out, sizeof out, "%s/out", directory);
    CHECK(access(out, F_OK) != 0);
    portknock_listener_free(listener);
    portknock_config_free(config);
}

/* Waiting for the descriptor in the caller's loop. The commands run, and an orderly stop closes the
 * door. */
static void commands_and_a_loop_of_ones_own(const char *directory) {
    portknock_error *error = NULL;
    portknock_config *config = config_in(directory, 7000, 600);
    open_listener(config, 1, 1);
    portknock_config_free(config);
    int opened = 0, closed = 0, notices = 0;
    knock("7000:udp,8000:udp");
    while (!portknock_listener_is_stopped(listener)) {
        struct pollfd entry;
        entry.fd = portknock_listener_fd(listener);
        entry.events = POLLIN;
        CHECK(poll(&entry, 1, 10000) == 1);
        const portknock_event *event;
        while ((event = next(0)) != NULL) {
            opened += event->kind == PORTKNOCK_EVENT_OPEN;
            closed += event->kind == PORTKNOCK_EVENT_CLOSE;
            if (event->kind == PORTKNOCK_EVENT_NOTICE) {
                notices++;
                CHECK(event->message != NULL && event->message[0] != 0 && event->door[0] == 0 && event->ip[0] == 0 && event->family == 0);
            }
            if (event->kind == PORTKNOCK_EVENT_OPEN) {
                OK(portknock_listener_stop(listener, &error));
                OK(portknock_listener_stop(listener, &error));
            }
        }
    }
    CHECK(opened == 1 && closed == 1 && notices >= 3);
    CHECK(next(-1) == NULL);
    portknock_listener_free(listener);
    char out[1000], text[100];
    snprintf(out, sizeof out, "%s/out", directory);
    FILE *file = fopen(out, "r");
    CHECK(file != NULL);
    CHECK(fread(text, 1, sizeof text, file) == strlen("open 127.0.0.1\nclose 127.0.0.1\n"));
    CHECK(strncmp(text, "open 127.0.0.1\nclose 127.0.0.1\n", 31) == 0);
    fclose(file);
}

static void *wait_for_ever(void *unused) {
    (void)unused;
    CHECK(next(-1) == NULL);
    return NULL;
}

static void on_signal(int number) {
    (void)number;
    portknock_listener_interrupt(listener);
}

static void interruptions(const char *directory) {
    portknock_error *error = NULL;
    pthread_t thread;
    const struct timespec moment = {0, 50 * 1000 * 1000};
    portknock_config *config = config_in(directory, 7000, 1);
    portknock_config *other = config_in(directory, 7100, 1);
    open_listener(config, 0, 0);
    /* From another thread, which can make all other calls at the same time. */
    CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
    nanosleep(&moment, NULL);
    OK(portknock_listener_reload(listener, other, &error));
    portknock_listener_interrupt(listener);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(next(0) == NULL);
    /* Before the wait. */
    portknock_listener_interrupt(listener);
    portknock_listener_interrupt(listener);
    CHECK(next(-1) == NULL);
    /* From a signal handler. */
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    alarm(1);
    CHECK(next(-1) == NULL);
    /* The reloaded configuration is in force. */
    next(0);
    knock("7000:udp,7100:udp");
    CHECK(next(10000)->kind == PORTKNOCK_EVENT_STAGE);
    portknock_config_free(config);
    portknock_config_free(other);
    portknock_listener_free(listener);
}

static void misuse(void) {
    portknock_error *error = NULL;
    const portknock_event *event = NULL;
    portknock_config *config = parse("[options]\ninterface = lo\n[a]\nsequence = 1,2\ncommand = x\n");
    portknock_listener_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    const char *wrong[] = {"no/interface"};
    const char *missing[] = {"later0"};
    FAILS(portknock_listener_open(NULL, NULL, &listener, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    FAILS(portknock_listener_open(config, NULL, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "listener is NULL");
    options.interface_count = 1;
    FAILS(portknock_listener_open(config, &options, &listener, &error), PORTKNOCK_ERR_ARGUMENT, "interfaces is NULL");
    options.interfaces = wrong;
    FAILS(portknock_listener_open(config, &options, &listener, &error), PORTKNOCK_ERR_ARGUMENT, "no/interface");
    CHECK(listener == NULL);
    options.interfaces = missing;
    OK(portknock_listener_open(config, &options, &listener, &error));
    FAILS(portknock_listener_next(listener, 0, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "event is NULL");
    FAILS(portknock_listener_reload(listener, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    /* Calls in any order: an event after the stop, a reload after the stop. */
    OK(portknock_listener_stop(listener, &error));
    CHECK(next(-1) == NULL && portknock_listener_is_stopped(listener) == 1);
    OK(portknock_listener_reload(listener, config, &error));
    next(0);
    portknock_listener_free(listener);
    FAILS(portknock_listener_next(NULL, 0, &event, &error), PORTKNOCK_ERR_ARGUMENT, "listener is NULL");
    FAILS(portknock_listener_stop(NULL, &error), PORTKNOCK_ERR_ARGUMENT, "listener is NULL");
    FAILS(portknock_listener_reload(NULL, config, &error), PORTKNOCK_ERR_ARGUMENT, "listener is NULL");
    CHECK(portknock_listener_fd(NULL) == -1 && portknock_listener_is_stopped(NULL) == 0);
    portknock_listener_interrupt(NULL);
    portknock_listener_free(NULL);
    portknock_config_free(config);
}

/* A forked child cannot use the listener any more, and consumes none of the parent's events. */
static void a_forked_child(const char *directory) {
    portknock_error *error = NULL;
    const portknock_event *event = NULL;
    portknock_config *config = config_in(directory, 7000, 600);
    int status = 0;
    open_listener(config, 0, 0);
    knock("7000:udp,8000:udp");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        FAILS(portknock_listener_next(listener, 0, &event, &error), PORTKNOCK_ERR_FORKED, "process that opened it");
        FAILS(portknock_listener_next(listener, -1, &event, &error), PORTKNOCK_ERR_FORKED, "forked child");
        FAILS(portknock_listener_reload(listener, config, &error), PORTKNOCK_ERR_FORKED, "forked child");
        FAILS(portknock_listener_stop(listener, &error), PORTKNOCK_ERR_FORKED, "forked child");
        CHECK(portknock_listener_fd(listener) == -1 && portknock_listener_is_stopped(listener) == 1);
        portknock_listener_interrupt(listener);
        portknock_listener_free(listener);
        /* Objects other than listeners work. */
        portknock_config_free(config);
        portknock_config_free(config_in(directory, 7000, 1));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* Not interrupted, not stopped, and nothing is lost. */
    CHECK(next(10000)->stage == 1 && next(10000)->stage == 2);
    CHECK(next(10000)->kind == PORTKNOCK_EVENT_OPEN);
    portknock_listener_free(listener);
    portknock_config_free(config);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    events_without_commands(argv[1]);
    commands_and_a_loop_of_ones_own(argv[1]);
    interruptions(argv[1]);
    a_forked_child(argv[1]);
    misuse();
    return 0;
}
