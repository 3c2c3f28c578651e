/* The minimal cost of a program that captures: `count INTERFACE` counts the packets that arrive. It
 * configures libpcap and sleeps as portknockd does (core/src/capture/coalescer.rs), so that both read a
 * packet equally soon. On SIGUSR1 it prints the number of packets that it has counted and that the
 * kernel has dropped. SIGTERM ends it. */
#define _GNU_SOURCE
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SNAP_LENGTH = 128, BUFFER_BYTES = 4 << 20, FRAMES_A_TURN = 4096, REST_NS = 1000000, BUSY = 8 };

static volatile sig_atomic_t asked, ended;

static void on_signal(int number) {
    if (number == SIGTERM)
        ended = 1;
    else
        asked = 1;
}

static void on_packet(u_char *counter, const struct pcap_pkthdr *header, const u_char *data) {
    (void)header;
    (void)data;
    ++*(unsigned long *)counter;
}

static void check(int fine, const char *what) {
    if (!fine) {
        fprintf(stderr, "count: %s\n", what);
        exit(1);
    }
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv) {
    check(argc == 2, "usage: count INTERFACE");
    /* Signals are delivered only during the wait, so that none is missed between the check of the
     * flags and the wait. */
    sigset_t blocked, unblocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &unblocked);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);

    char error[PCAP_ERRBUF_SIZE] = "";
    pcap_t *capture = pcap_create(argv[1], error);
    check(capture != NULL, error);
    pcap_set_snaplen(capture, SNAP_LENGTH);
    pcap_set_promisc(capture, 0);
    pcap_set_immediate_mode(capture, 1);
    pcap_set_buffer_size(capture, BUFFER_BYTES);
    pcap_set_tstamp_precision(capture, PCAP_TSTAMP_PRECISION_NANO);
    check(pcap_activate(capture) == 0, pcap_geterr(capture));
    check(pcap_setnonblock(capture, 1, error) == 0, error);
    check(pcap_setdirection(capture, PCAP_D_IN) == 0, pcap_geterr(capture));
    struct pollfd fd = {.fd = pcap_get_selectable_fd(capture), .events = POLLIN};
    puts("listening");
    fflush(stdout);

    unsigned long counted = 0;
    int resting = 0, close_looks = 0;
    long long last_frames = 0;
    const struct timespec rest = {0, REST_NS};
    while (!ended) {
        if (resting)
            ppoll(NULL, 0, &rest, &unblocked);
        else
            ppoll(&fd, 1, NULL, &unblocked);
        long long start = now_ns();
        int frames = pcap_dispatch(capture, FRAMES_A_TURN, on_packet, (u_char *)&counted);
        check(frames >= 0, pcap_geterr(capture));
        if (frames > 0) {
            close_looks = start - last_frames < REST_NS ? close_looks + 1 : 0;
            last_frames = now_ns();
        } else if (resting) {
            close_looks = 0;
        }
        resting = frames > 0 && frames < FRAMES_A_TURN && (resting || close_looks >= BUSY);
        if (asked) {
            struct pcap_stat stat;
            check(pcap_stats(capture, &stat) == 0, pcap_geterr(capture));
            printf("counted %lu, drops %u\n", counted, stat.ps_drop);
            fflush(stdout);
            asked = 0;
        }
    }
    pcap_close(capture);
    return 0;
}
