/* The least that a command can do: `mark FILE` writes a byte into FILE. Linked without a shared library, it takes next to no
 * time to start, so that what is measured with it is the way to it. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int file = argc == 2 ? open(argv[1], O_WRONLY) : -1;
    return write(file, "x", 1) == 1 ? 0 : 1;
}
