/* Loaded before libpcap into a program that opens its capture with pcap_open_live(), as the
 * original knockd does. The program then gets each packet when it arrives, and not when its read
 * timeout is over. */
#define _GNU_SOURCE
#include <pcap/pcap.h>

pcap_t *pcap_open_live(const char *device, int snap_length, int promiscuous, int wait_ms, char *error) {
    pcap_t *capture = pcap_create(device, error);
    if (capture == NULL)
        return NULL;
    pcap_set_snaplen(capture, snap_length);
    pcap_set_promisc(capture, promiscuous);
    pcap_set_timeout(capture, wait_ms);
    pcap_set_immediate_mode(capture, 1);
    if (pcap_activate(capture) == 0)
        return capture;
    pcap_close(capture);
    return NULL;
}
