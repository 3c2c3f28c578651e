/* Probes and knocks on the loopback interface of a network namespace, and structs of options of all
 * sizes. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener_at(int port, int type) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, type, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(type != SOCK_STREAM || listen(fd, 16) == 0);
    return fd;
}

static int asked;
static int tell(void *data, double done, size_t known, size_t ports) {
    CHECK(done >= 0 && done <= 1 && known <= ports && ports == 65535);
    asked++;
    return *(int *)data;
}

static void probes(void) {
    portknock_error *error = NULL;
    portknock_probe_results *results = NULL;
    int open = listener_at(1022, SOCK_STREAM);
    OK(portknock_probe("127.0.0.1", "1022-1023", NULL, &results, &error));
    CHECK(portknock_probe_results_count(results) == 2);
    const portknock_probe_result *first = portknock_probe_results_get(results, 0);
    const portknock_probe_result *second = portknock_probe_results_get(results, 1);
    CHECK_TEXT(first->address, "127.0.0.1");
    CHECK(first->family == 4 && first->port == 1022 && first->protocol == PORTKNOCK_TCP);
    CHECK(first->state == PORTKNOCK_PORT_OPEN && first->rtt_ns > 0);
    CHECK_TEXT(first->reason, "syn-ack");
    CHECK(second->port == 1023 && second->state == PORTKNOCK_PORT_CLOSED);
    CHECK_TEXT(portknock_port_state_name(second->state), "closed");
    CHECK(portknock_probe_results_get(results, 2) == NULL);
    CHECK(portknock_probe_results_method(results) != PORTKNOCK_METHOD_AUTO);
    portknock_probe_results_free(results);
    close(open);

    portknock_probe_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.protocol = PORTKNOCK_UDP;
    options.source = "127.0.0.1";
    options.family = PORTKNOCK_FAMILY_IPV4;
    options.retries = PORTKNOCK_NO_RETRIES;
    options.timeout_ms = 100;
    int silent = listener_at(1024, SOCK_DGRAM);
    OK(portknock_probe("localhost", "1024", &options, &results, &error));
    CHECK(portknock_probe_results_get(results, 0)->state == PORTKNOCK_PORT_OPEN_FILTERED);
    CHECK(portknock_probe_results_get(results, 0)->rtt_ns == -1);
    portknock_probe_results_free(results);
    close(silent);

    /* The observer stops it. */
    int stop = 1;
    options.protocol = PORTKNOCK_TCP;
    options.rate = 1000;
    options.progress = tell;
    options.progress_data = &stop;
    OK(portknock_probe("127.0.0.1", "-", &options, &results, &error));
    CHECK(asked == 1 && portknock_probe_results_count(results) < 65535);
    portknock_probe_results_free(results);
}

static void knocks(void) {
    portknock_error *error = NULL;
    portknock_knock_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    int udp = listener_at(1025, SOCK_DGRAM);
    char byte;
    OK(portknock_knock("127.0.0.1", "7000,1025:udp", NULL, &error));
    CHECK(recv(udp, &byte, 1, 0) >= 0);
    close(udp);
    int open = listener_at(1026, SOCK_STREAM);
    options.then_port = 1026;
    options.delay_ms = 1;
    OK(portknock_knock("127.0.0.1", "7000,8000:udp", &options, &error));
    close(open);
    options.wait_ms = 20;
    options.retries = 1;
    FAILS(portknock_knock("127.0.0.1", "7000", &options, &error), PORTKNOCK_ERR_NOT_OPEN, "did not open");
    options.source = "192.0.2.1";
    FAILS(portknock_knock("127.0.0.1", "7000", &options, &error), PORTKNOCK_ERR_NETWORK, "127.0.0.1");
    FAILS(portknock_knock("192.0.2.2", "7000", NULL, &error), PORTKNOCK_ERR_NETWORK, "192.0.2.2");
}

static void misuse(void) {
    portknock_error *error = NULL;
    portknock_probe_results *results = NULL;
    portknock_probe_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    FAILS(portknock_probe(NULL, "1", NULL, &results, &error), PORTKNOCK_ERR_ARGUMENT, "host is NULL");
    FAILS(portknock_probe("127.0.0.1", NULL, NULL, &results, &error), PORTKNOCK_ERR_ARGUMENT, "ports is NULL");
    FAILS(portknock_probe("127.0.0.1", "1", NULL, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "results is NULL");
    FAILS(portknock_probe("127.0.0.1", "1,x!", NULL, &results, &error), PORTKNOCK_ERR_ARGUMENT, "`x!`");
    FAILS(portknock_probe("\xff", "1", NULL, &results, &error), PORTKNOCK_ERR_ARGUMENT, "host is not UTF-8");
    FAILS(portknock_probe("no such host", "1", NULL, &results, &error), PORTKNOCK_ERR_HOST, "no such host");
    FAILS(portknock_probe("192.0.2.1", "1", NULL, &results, &error), PORTKNOCK_ERR_NETWORK, "192.0.2.1");
    CHECK(results == NULL);
    int *numbers[] = {&options.protocol, &options.method, &options.family, &options.retries, &options.reserved};
    const char *names[] = {"protocol", "method", "family", "retries", "reserved"};
    for (int i = 0; i < 5; i++) {
        *numbers[i] = 1000;
        FAILS(portknock_probe("127.0.0.1", "1", &options, &results, &error), PORTKNOCK_ERR_ARGUMENT, names[i]);
        *numbers[i] = 0;
    }
    options.source = "here";
    FAILS(portknock_probe("127.0.0.1", "1", &options, &results, &error), PORTKNOCK_ERR_ARGUMENT, "source");
    CHECK(portknock_probe_results_count(NULL) == 0 && portknock_probe_results_get(NULL, 0) == NULL);
    CHECK(portknock_probe_results_method(NULL) == PORTKNOCK_METHOD_AUTO);
    portknock_probe_results_free(NULL);
    FAILS(portknock_knock(NULL, "1", NULL, &error), PORTKNOCK_ERR_ARGUMENT, "host is NULL");
    FAILS(portknock_knock("127.0.0.1", NULL, NULL, &error), PORTKNOCK_ERR_ARGUMENT, "steps is NULL");
    FAILS(portknock_knock("127.0.0.1", "0", NULL, &error), PORTKNOCK_ERR_ARGUMENT, "steps: `0`");
    CHECK_TEXT(portknock_port_state_name(0), "unknown");
}

/* Structs of options as older and newer headers have them. */
static void sizes(void) {
    portknock_error *error = NULL;
    /* An older struct, which ends after `family` and `all_addresses`: the library does not read the
     * bytes after it. */
    portknock_knock_options *shorter = (portknock_knock_options *)malloc(offsetof(portknock_knock_options, raw));
    CHECK(shorter != NULL);
    memset(shorter, 0, offsetof(portknock_knock_options, raw));
    shorter->struct_size = offsetof(portknock_knock_options, raw);
    shorter->family = PORTKNOCK_FAMILY_IPV4;
    OK(portknock_knock("127.0.0.1", "7000", shorter, &error));
    shorter->family = PORTKNOCK_FAMILY_IPV6;
    FAILS(portknock_knock("127.0.0.1", "7000", shorter, &error), PORTKNOCK_ERR_HOST, "no IPv6 address");
    /* Only the size. */
    shorter->struct_size = sizeof(size_t);
    OK(portknock_knock("127.0.0.1", "7000", shorter, &error));
    /* Sizes that no release had. */
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, sizeof(size_t) + 1, offsetof(portknock_knock_options, raw) - 4,
                                   SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        shorter->struct_size = wrong[i];
        FAILS(portknock_knock("127.0.0.1", "7000", shorter, &error), PORTKNOCK_ERR_ARGUMENT, "struct_size");
    }
    free(shorter);
    /* A newer struct, whose further fields are in use or not. */
    struct {
        portknock_knock_options options;
        uint64_t later;
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.options.struct_size = sizeof longer;
    OK(portknock_knock("127.0.0.1", "7000", &longer.options, &error));
    longer.later = UINT64_C(1) << 63;
    FAILS(portknock_knock("127.0.0.1", "7000", &longer.options, &error), PORTKNOCK_ERR_ARGUMENT, "does not have");
    FAILS(portknock_knock("127.0.0.1", "7000", (portknock_knock_options *)((char *)&longer + 1), &error),
          PORTKNOCK_ERR_ARGUMENT, "not aligned");
}

int main(void) {
    probes();
    knocks();
    misuse();
    sizes();
    return 0;
}
