/* Cost of portknock_engine_feed(): `feed CONFIG FRAMES ROUNDS [events]` feeds all frames of a file
 * ROUNDS times, reads the events if its last argument is `events`, and prints the fastest of many
 * runs in nanoseconds per frame. In the file each frame follows its length, two bytes in this
 * machine's order. */
#define _POSIX_C_SOURCE 199309L
#include "check.h"
#include <stdint.h>
#include <time.h>

enum { RUNS = 41, MOST = 1 << 24 };

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    CHECK(argc == 4 || argc == 5);
    int events = argc == 5;
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    portknock_engine *engine = NULL;
    OK(portknock_config_load(argv[1], &config, &error));
    OK(portknock_engine_new(config, &engine, &error));
    unsigned char *frames = malloc(MOST);
    FILE *file = fopen(argv[2], "rb");
    CHECK(frames != NULL && file != NULL);
    size_t size = fread(frames, 1, MOST, file);
    fclose(file);
    CHECK(size > 0 && size < MOST);
    long rounds = strtol(argv[3], NULL, 10);
    double fastest = 1e9;
    uint64_t time_ns = 1000000000;
    for (int run = 0; run < RUNS; run++) {
        long count = 0;
        double begin = now_ns();
        for (long round = 0; round < rounds; round++) {
            for (size_t at = 0; at < size;) {
                uint16_t length;
                const portknock_event *event;
                memcpy(&length, frames + at, sizeof length);
                at += sizeof length;
                time_ns += 1000;
                OK(portknock_engine_feed(engine, PORTKNOCK_LINKTYPE_ETHERNET, time_ns, frames + at, length, &error));
                at += length;
                while (events && portknock_engine_next_event(engine, &event) == PORTKNOCK_OK) {
                }
                count++;
            }
        }
        double took = (now_ns() - begin) / (double)count;
        if (run > 0 && took < fastest) { /* The first run fills the engine. */
            fastest = took;
        }
        const portknock_event *event;
        while (portknock_engine_next_event(engine, &event) == PORTKNOCK_OK) {
        }
    }
    printf("%.2f\n", fastest);
    free(frames);
    portknock_engine_free(engine);
    portknock_config_free(config);
    return 0;
}
