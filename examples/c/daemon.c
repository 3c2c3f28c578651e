/* A small daemon with its own poll(2) loop, which could also wait for other descriptors.
 *
 *     daemon [-n] CONFIGURATION [INTERFACE]
 *
 * With -n the listener runs no commands: the program receives them in its events, and prints them.
 * SIGHUP makes the daemon read the configuration again. SIGTERM and SIGINT make it close all doors
 * and exit. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <portknock.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static portknock_listener *listener;
static volatile sig_atomic_t stop, reload;

static void on_signal(int number) {
    if (number == SIGHUP) {
        reload = 1;
    } else {
        stop = 1;
    }
    /* Makes the descriptor readable, so that poll returns. */
    portknock_listener_interrupt(listener);
}

static void catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void print_event(const portknock_event *event) {
    switch (event->kind) {
    case PORTKNOCK_EVENT_NOTICE:
        printf("%s\n", event->message);
        break;
    case PORTKNOCK_EVENT_STAGE:
        printf("%s: %s: stage %u of %u\n", event->ip, event->door, (unsigned)event->stage, (unsigned)event->steps);
        break;
    case PORTKNOCK_EVENT_REFUSED:
        printf("%s: %s: knock of key %s refused: %s\n", event->ip, event->door, event->key,
               portknock_refusal_reason_name(event->refusal));
        break;
    default:
        printf("%s: %s: %s", event->ip, event->door, portknock_event_kind_name(event->kind));
        if (event->key != NULL) {
            printf(" by %s", event->key);
        }
        printf("\n");
        break;
    }
    fflush(stdout);
}

/* Prints all pending events; returns 0 if the listener failed. */
static int print_events(void) {
    for (;;) {
        const portknock_event *event = NULL;
        portknock_error *error = NULL;
        portknock_status status = portknock_listener_next(listener, 0, &event, &error);
        if (status != PORTKNOCK_OK) {
            if (status < 0) {
                fprintf(stderr, "daemon: %s\n", portknock_error_message(error));
            }
            portknock_error_free(error);
            return status == PORTKNOCK_END;
        }
        print_event(event);
    }
}

static void reload_config(const char *path) {
    portknock_config *config = NULL;
    portknock_error *error = NULL;
    if (portknock_config_load(path, &config, &error) != PORTKNOCK_OK
        || portknock_listener_reload(listener, config, &error) != PORTKNOCK_OK) {
        fprintf(stderr, "daemon: the old configuration stays in use: %s\n", portknock_error_message(error));
    }
    portknock_error_free(error);
    portknock_config_free(config);
}

int main(int argc, char **argv) {
    int dry_run = argc > 1 && strcmp(argv[1], "-n") == 0;
    if (argc - dry_run < 2 || argc - dry_run > 3) {
        fprintf(stderr, "usage: daemon [-n] CONFIGURATION [INTERFACE]\n");
        return 2;
    }
    const char *path = argv[1 + dry_run];
    const char *interfaces[] = {argv[2 + dry_run]};
    portknock_listener_options options = {
        .struct_size = sizeof options,
        .interfaces = interfaces,
        .interface_count = interfaces[0] != NULL,
        .run_commands = !dry_run,
        .notices = 1,
    };
    portknock_config *config = NULL;
    portknock_error *error = NULL;
    portknock_status status = portknock_config_load(path, &config, &error);
    if (status == PORTKNOCK_OK) {
        status = portknock_listener_open(config, &options, &listener, &error);
    }
    portknock_config_free(config);
    if (status != PORTKNOCK_OK) {
        fprintf(stderr, "daemon: %s\n", portknock_error_message(error));
        portknock_error_free(error);
        return 1;
    }
    catch_signals();
    int ok = 1;
    while (ok && !portknock_listener_is_stopped(listener)) {
        /* Add your own descriptors here. */
        struct pollfd entries[] = {{.fd = portknock_listener_fd(listener), .events = POLLIN}};
        poll(entries, 1, -1);
        do {
            if (stop) {
                stop = 0;
                ok = portknock_listener_stop(listener, NULL) == PORTKNOCK_OK;
            }
            if (reload) {
                reload = 0;
                reload_config(path);
            }
            ok = ok && print_events();
            /* print_events() has consumed the wake-up of a signal that arrived after the checks. */
        } while (ok && (stop || reload));
    }
    portknock_listener_free(listener);
    return !ok;
}
