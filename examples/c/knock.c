/* Knocks, and waits until the port of the door is open.
 *
 *     knock HOST STEPS [PORT]
 *
 * STEPS has the form of a sequence in knockd.conf: 7000,8000:udp,9000. Exit status: 0 if the knocks
 * were sent and the port is open, 2 for a usage error, 3 if the port did not open, 1 for other
 * failures. */
#include <portknock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: knock HOST STEPS [PORT]\n");
        return 2;
    }
    portknock_knock_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.delay_ms = 5; /* so that no packet overtakes another */
    options.then_port = argc == 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    options.retries = 2;
    portknock_error *error = NULL;
    portknock_status status = portknock_knock(argv[1], argv[2], &options, &error);
    if (status != PORTKNOCK_OK) {
        fprintf(stderr, "knock: %s\n", portknock_error_message(error));
    } else if (argc == 4) {
        printf("port %s is open\n", argv[3]);
    }
    portknock_error_free(error);
    return status == PORTKNOCK_OK ? 0 : status == PORTKNOCK_ERR_NOT_OPEN ? 3 : 1;
}
