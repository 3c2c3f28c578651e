/* How long portknock_engine_feed() takes: `feed CONFIG FRAMES ROUNDS` feeds all frames of a file so often, eleven times, and
 * prints the median in nanoseconds a frame. In the file each frame follows its length, two bytes in this machine's order. */
#define _POSIX_C_SOURCE 199309L
#include "check.h"
#include <stdint.h>
#include <time.h>

enum { RUNS = 11, MOST = 1 << 24 };

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
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
    double runs[RUNS];
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
                while (portknock_engine_next_event(engine, &event) == PORTKNOCK_OK) {
                }
                count++;
            }
        }
        runs[run] = (now_ns() - begin) / (double)count;
    }
    qsort(runs, RUNS, sizeof *runs, by_size);
    printf("%.2f\n", runs[RUNS / 2]);
    free(frames);
    portknock_engine_free(engine);
    portknock_config_free(config);
    return 0;
}
