/* Shows which ports of a host are open, closed or filtered.
 *
 *     probe HOST PORTS
 *
 * PORTS has the form that nmap accepts: 22,80,8000-8100. */
#define _POSIX_C_SOURCE 200809L
#include <portknock.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int32_t progress(void *data, double done, size_t known, size_t ports) {
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%s: %3.0f %%, %zu of %zu ports", (const char *)data, done * 100, known, ports);
    }
    return 0; /* 0 continues the probe */
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: probe HOST PORTS\n");
        return 2;
    }
    portknock_probe_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.progress = progress;
    options.progress_data = argv[1];
    portknock_probe_results *results = NULL;
    portknock_error *error = NULL;
    portknock_status status = portknock_probe(argv[1], argv[2], &options, &results, &error);
    for (size_t i = 0; i < portknock_probe_results_count(results); i++) {
        const portknock_probe_result *result = portknock_probe_results_get(results, i);
        printf("%s %u/%s %s (%s)", result->address, (unsigned)result->port,
               result->protocol == PORTKNOCK_UDP ? "udp" : "tcp", portknock_port_state_name(result->state),
               result->reason);
        if (result->rtt_ns >= 0) {
            printf(" after %.3f ms", (double)result->rtt_ns / 1e6);
        }
        printf("\n");
    }
    if (status != PORTKNOCK_OK) {
        fprintf(stderr, "probe: %s\n", portknock_error_message(error));
    }
    portknock_error_free(error);
    portknock_probe_results_free(results);
    return status != PORTKNOCK_OK;
}
