/* Preloaded into portknockd, makes it start the program READER_PROGRAM as its reader. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>

typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                           char *const[], char *const[]);

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    spawn_function *original = (spawn_function *)dlsym(RTLD_NEXT, "posix_spawnp");
    if (strcmp(file, "/proc/self/exe") != 0)
        return original(pid, file, actions, attributes, arguments, environment);
    char *program = getenv("READER_PROGRAM");
    char *own_arguments[] = {program, getenv("READER_MISBEHAVIOUR"), getenv("READER_DIRECTORY"), NULL};
    return original(pid, program, actions, attributes, own_arguments, environment);
}
