/* Shows what the packets of a capture file would have done.
 *
 *     replay CONFIGURATION CAPTURE [ADDRESS…]
 *
 * ADDRESS is an address of the machine that received the packets. Without addresses, any destination
 * counts. */
#include <inttypes.h>
#include <portknock.h>
#include <stdio.h>

static void print(const portknock_event *event) {
    printf("%" PRIu64 ".%09" PRIu64 " %s %s %s", event->time_ns / 1000000000, event->time_ns % 1000000000, event->ip,
           event->door, portknock_event_kind_name(event->kind));
    switch (event->kind) {
    case PORTKNOCK_EVENT_STAGE:
        printf(" %" PRIu32 " of %" PRIu32, event->stage, event->steps);
        break;
    case PORTKNOCK_EVENT_OPEN:
    case PORTKNOCK_EVENT_EXTEND:
    case PORTKNOCK_EVENT_CLOSE:
        printf(" by: %s", event->command != NULL ? event->command : "nothing");
        if (event->key != NULL) {
            printf(" for key %s", event->key);
        }
        break;
    case PORTKNOCK_EVENT_REFUSED:
        printf(" for key %s: %s", event->key, portknock_refusal_reason_name(event->refusal));
        break;
    case PORTKNOCK_EVENT_FAIL:
        printf(" at stage %" PRIu32 ": %s", event->stage, portknock_fail_reason_name(event->reason));
        break;
    default:
        break;
    }
    printf("\n");
}

int main(int argc, char **argv) {
    portknock_config *config = NULL;
    portknock_replay *replay = NULL;
    const portknock_event *event = NULL;
    portknock_error *error = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: replay CONFIGURATION CAPTURE [ADDRESS...]\n");
        return 2;
    }
    portknock_status status = portknock_config_load(argv[1], &config, &error);
    if (status == PORTKNOCK_OK) {
        size_t count = (size_t)argc - 3;
        const char *const *addresses = count > 0 ? (const char *const *)argv + 3 : NULL;
        status = portknock_replay_open(config, argv[2], addresses, count, &replay, &error);
    }
    while (status == PORTKNOCK_OK) {
        status = portknock_replay_next(replay, &event, &error);
        if (status == PORTKNOCK_OK) {
            print(event);
        }
    }
    if (status < 0) {
        fprintf(stderr, "replay: %s\n", portknock_error_message(error));
    }
    portknock_error_free(error);
    portknock_replay_free(replay);
    portknock_config_free(config);
    return status < 0;
}
