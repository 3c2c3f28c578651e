/* A small daemon around a poll(2) loop of its own, which could wait for more than knocks.
 *
 *     daemon [-n] CONFIGURATION [INTERFACE]
 *
 * With -n no command is run: the program takes them from the events, here to print them. SIGHUP reads the configuration
 * again, SIGTERM and SIGINT stop: open doors are closed first. */
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
    /* Makes the descriptor readable, so that the loop comes round. */
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

static void tell(const portknock_event *event) {
    switch (event->kind) {
    case PORTKNOCK_EVENT_NOTICE:
        printf("%s\n", event->message);
        break;
    case PORTKNOCK_EVENT_STAGE:
        printf("%s: %s: stage %u of %u\n", event->ip, event->door, (unsigned)event->stage, (unsigned)event->steps);
        break;
    default:
        printf("%s: %s: %s\n", event->ip, event->door, portknock_event_kind_name(event->kind));
        break;
    }
    fflush(stdout);
}

/* Takes what there is to tell; 0 where that failed. */
static int take_events(void) {
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
        tell(event);
    }
}

static void read_again(const char *path) {
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
    int well = 1;
    while (well && !portknock_listener_is_stopped(listener)) {
        /* Descriptors of your own go here too. */
        struct pollfd entries[] = {{.fd = portknock_listener_fd(listener), .events = POLLIN}};
        poll(entries, 1, -1);
        do {
            if (stop) {
                stop = 0;
                well = portknock_listener_stop(listener, NULL) == PORTKNOCK_OK;
            }
            if (reload) {
                reload = 0;
                read_again(path);
            }
            well = well && take_events();
            /* What made the descriptor readable is taken by now, also for a signal that came after the looks above. */
        } while (well && (stop || reload));
    }
    portknock_listener_free(listener);
    return !well;
}
