/* A minimal command: `mark FILE` writes a byte into FILE. Linked without a shared library, it takes
 * almost no time to start, so that a measurement with it shows the time until the command runs. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int file = argc == 2 ? open(argv[1], O_WRONLY) : -1;
    return write(file, "x", 1) == 1 ? 0 : 1;
}
