/* Checks a configuration: prints the report of `portknock check`, then fields of each diagnostic.
 *
 *     check CONFIGURATION
 *
 * Exit status: 0 without errors, 1 with errors, 2 if the file cannot be read. */
#include <portknock.h>
#include <stdio.h>

static void print(const portknock_diagnostic *diagnostic) {
    printf("line %zu, columns %zu to %zu: %s %s", diagnostic->line, diagnostic->column, diagnostic->end_column,
           diagnostic->severity == PORTKNOCK_ERROR ? "error" : "warning", diagnostic->code);
    if (diagnostic->fix_replacement != NULL) {
        printf(", fixed by `%s`", diagnostic->fix_replacement);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    portknock_config *config = NULL;
    portknock_error *error = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: check CONFIGURATION\n");
        return 2;
    }
    portknock_status status = portknock_config_load(argv[1], &config, &error);
    if (status == PORTKNOCK_OK) {
        printf("%s", portknock_config_report(config));
        for (size_t i = 0; i < portknock_config_diagnostic_count(config); i++) {
            print(portknock_config_diagnostic(config, i));
        }
        printf("%zu doors\n", portknock_config_door_count(config));
    } else if (status == PORTKNOCK_ERR_CONFIG) {
        printf("%s", portknock_error_report(error));
        for (size_t i = 0; i < portknock_error_diagnostic_count(error); i++) {
            print(portknock_error_diagnostic(error, i));
        }
    } else {
        fprintf(stderr, "check: %s\n", portknock_error_message(error));
    }
    portknock_error_free(error);
    portknock_config_free(config);
    return status == PORTKNOCK_OK ? 0 : status == PORTKNOCK_ERR_CONFIG ? 1 : 2;
}
