/* Shared parts of the tests in C. */
#ifndef CHECK_H
#define CHECK_H

#include <portknock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the test, and prints the position, if `condition` does not hold. */
#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

/* The same for two texts, which are printed. */
#define CHECK_TEXT(actual, expected)                                                                       \
    do {                                                                                                   \
        const char *got = (actual);                                                                        \
        if (strcmp(got, (expected)) != 0) {                                                                \
            fprintf(stderr, "%s:%d: %s is `%s`, not `%s`\n", __FILE__, __LINE__, #actual, got, (expected)); \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

/* Ends the test if a call failed, and prints its message. */
static inline void check_ok(portknock_status status, portknock_error *error, const char *file, int line) {
    if (status != PORTKNOCK_OK) {
        fprintf(stderr, "%s:%d: %s: %s\n", file, line, portknock_status_name(status), portknock_error_message(error));
        exit(1);
    }
}
#define OK(call)                                   \
    do {                                           \
        portknock_status outcome = (call);         \
        check_ok(outcome, error, __FILE__, __LINE__); \
    } while (0)

/* The call fails with this status, and its message contains this text. */
#define FAILS(call, wanted, text)                                                                            \
    do {                                                                                                     \
        portknock_status status = (call);                                                                    \
        if (status != (wanted) || error == NULL || strstr(portknock_error_message(error), (text)) == NULL) { \
            fprintf(stderr, "%s:%d: status %d: %s\n", __FILE__, __LINE__, (int)status,                       \
                    portknock_error_message(error));                                                         \
            exit(1);                                                                                         \
        }                                                                                                    \
        CHECK(portknock_error_status(error) == (wanted));                                                    \
        portknock_error_free(error);                                                                         \
        error = NULL;                                                                                        \
    } while (0)

static inline portknock_config *parse(const char *text) {
    portknock_config *config = NULL;
    portknock_error *error = NULL;
    OK(portknock_config_parse(text, strlen(text), NULL, &config, &error));
    return config;
}

/* An Ethernet frame with a UDP datagram to a port, from 192.0.2.`source`. */
#define FRAME_LENGTH 42
static inline void make_frame(uint8_t frame[FRAME_LENGTH], int source, int port) {
    static const uint8_t head[FRAME_LENGTH] = {
        2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0,                                  /* Ethernet */
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 0, 192, 0, 2, 1,       /* IPv4 */
        0x9c, 0x40, 0, 0, 0, 8, 0, 0,                                              /* UDP */
    };
    memcpy(frame, head, FRAME_LENGTH);
    frame[29] = (uint8_t)source;
    frame[36] = (uint8_t)(port >> 8);
    frame[37] = (uint8_t)(port & 0xff);
}

#endif
