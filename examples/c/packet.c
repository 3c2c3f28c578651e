/* Opens a door by one authenticated packet, which this program sends by its own socket.
 *
 *     packet KEYFILE HOST [PORT]
 *
 * KEYFILE is the file of a client that `portknock keygen NAME --form packet --door DOOR` has written.
 * PORT is the UDP port of the server, by default 62201. portknock_knock_by_key() does the same without
 * a socket of the program, and can wait until a port of the server opens. */
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <portknock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends the packet to the first address of the host; returns 0 if that failed. */
static int send_to(const char *host, const char *port, const uint8_t *packet, size_t size) {
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_DGRAM;
    int failure = getaddrinfo(host, port, &hints, &found);
    if (failure != 0) {
        fprintf(stderr, "packet: %s: %s\n", host, gai_strerror(failure));
        return 0;
    }
    int fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    int ok = fd >= 0 && sendto(fd, packet, size, 0, found->ai_addr, found->ai_addrlen) == (ssize_t)size;
    if (!ok) {
        perror("packet");
    }
    if (fd >= 0) {
        close(fd);
    }
    freeaddrinfo(found);
    return ok;
}

int main(int argc, char **argv) {
    uint8_t packet[PORTKNOCK_PACKET_SIZE];
    portknock_error *error = NULL;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: packet KEYFILE HOST [PORT]\n");
        return 2;
    }
    /* For the source address of the packet, the door's cmd_timeout, and the present time. Each packet
     * opens once, so a repetition needs a new one. */
    if (portknock_packet(argv[1], NULL, 0, 0, packet, sizeof packet, &error) != PORTKNOCK_OK) {
        fprintf(stderr, "packet: %s\n", portknock_error_message(error));
        portknock_error_free(error);
        return 1;
    }
    return !send_to(argv[2], argc == 4 ? argv[3] : "62201", packet, sizeof packet);
}
