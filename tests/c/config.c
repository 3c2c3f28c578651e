/* Versions, sizes, configurations, errors and their diagnostics. Argument: a writable directory. */
#include "check.h"

static void versions_and_sizes(void) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PORTKNOCK_VERSION_MAJOR, PORTKNOCK_VERSION_MINOR,
             PORTKNOCK_VERSION_PATCH);
    CHECK_TEXT(portknock_version(), version);
    CHECK(portknock_abi_version() == PORTKNOCK_ABI_VERSION);
    CHECK(sizeof(portknock_status) == 4);
#if UINTPTR_MAX == 0xffffffffffffffff
    CHECK(sizeof(portknock_diagnostic) == 88);
    CHECK(sizeof(portknock_event) == 120);
    CHECK(sizeof(portknock_listener_options) == 40);
    CHECK(sizeof(portknock_probe_options) == 64);
    CHECK(sizeof(portknock_probe_result) == 40);
    CHECK(sizeof(portknock_knock_options) == 48);
#endif
    CHECK(offsetof(portknock_listener_options, struct_size) == 0);
    CHECK(offsetof(portknock_probe_options, struct_size) == 0);
    CHECK(offsetof(portknock_knock_options, struct_size) == 0);
    CHECK_TEXT(portknock_status_name(PORTKNOCK_OK), "ok");
    CHECK_TEXT(portknock_status_name(PORTKNOCK_ERR_PANICKED), "panicked");
    CHECK_TEXT(portknock_status_name(PORTKNOCK_ERR_NOT_OPEN), "not-open");
    CHECK_TEXT(portknock_status_name(-99), "unknown");
}

static void a_good_configuration(void) {
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    const char *text = "[ssh]\nsequence = 7000,8000:udp\nstart_command = open %IP%\n[web]\nsequence = 1,2\ncommand = true\n";
    /* The library copies the text, which may lack a zero at its end. */
    char *copy = (char *)malloc(strlen(text));
    CHECK(copy != NULL);
    memcpy(copy, text, strlen(text));
    OK(portknock_config_parse(copy, strlen(text), "the name", &config, &error));
    free(copy);
    CHECK(error == NULL);
    CHECK(portknock_config_door_count(config) == 2);
    CHECK(strstr(portknock_config_json(config), "\"file\":\"the name\"") != NULL);
    CHECK(strstr(portknock_config_json(config), "\"start_command\":\"open %IP%\"") != NULL);
    portknock_config_free(config);
    /* An empty text is a configuration without doors. */
    OK(portknock_config_parse(NULL, 0, NULL, &config, NULL));
    CHECK(portknock_config_door_count(config) == 0);
    portknock_config_free(config);
}

static void warnings_stay_with_the_configuration(void) {
    portknock_config *config = parse("[ssh]\nsequence = 8000,7000,9000\ncommand = true \001\n");
    CHECK(portknock_config_diagnostic_count(config) == 1);
    const portknock_diagnostic *found = portknock_config_diagnostic(config, 0);
    CHECK(found->severity == PORTKNOCK_WARNING);
    CHECK(found->line == 3 && found->column == 16);
    CHECK(found->code[0] == 'P' && strlen(found->code) == 5);
    CHECK(strstr(portknock_config_report(config), "<text>:3:16: warning[") != NULL);
    CHECK(portknock_config_diagnostic(config, 1) == NULL);
    portknock_config_free(config);
}

static void errors_have_everything(void) {
    portknock_error *error = NULL;
    portknock_config *config = (portknock_config *)(uintptr_t)8;
    const char *text = "[ssh]\nsequence = 7000,80000\ncommand = true\n[other]\nsequence = 9,1,5\ncommand = true\nseq_timeout = -1\n";
    portknock_status status = portknock_config_parse(text, strlen(text), "a.conf", &config, &error);
    CHECK(status == PORTKNOCK_ERR_CONFIG && portknock_error_status(error) == status);
    CHECK(config == NULL);
    CHECK_TEXT(portknock_error_file(error), "a.conf");
    CHECK(portknock_error_line(error) == 2 && portknock_error_column(error) == 17);
    CHECK(strncmp(portknock_error_message(error), "a.conf:2:17: ", 13) == 0);
    CHECK(strstr(portknock_error_message(error), "(and 1 more)") != NULL);
    CHECK(portknock_error_diagnostic_count(error) == 2);
    CHECK(portknock_error_diagnostic(error, 1)->line == 7);
    CHECK(portknock_error_diagnostic(error, 1)->severity == PORTKNOCK_ERROR);
    CHECK(portknock_error_diagnostic(error, 2) == NULL && portknock_error_diagnostic(error, (size_t)-1) == NULL);
    CHECK(strstr(portknock_error_report(error), "a.conf:7:") != NULL);
    portknock_error_free(error);
    /* The caller may omit the error. */
    CHECK(portknock_config_parse(text, strlen(text), NULL, &config, NULL) == PORTKNOCK_ERR_CONFIG);
}

static void a_fix_is_data(void) {
    const char *text = "[ssh]\nsequence = 8000 7000 9000\ncommand = true\n";
    portknock_config *config = parse(text);
    const portknock_diagnostic *found = portknock_config_diagnostic(config, 0);
    CHECK(portknock_config_diagnostic_count(config) == 1 && found->help != NULL);
    CHECK(found->fix_start == 17 && found->fix_end == 31);
    char fixed[200];
    snprintf(fixed, sizeof fixed, "%.*s%s%s", (int)found->fix_start, text, found->fix_replacement, text + found->fix_end);
    portknock_config_free(config);
    config = parse(fixed);
    CHECK(portknock_config_diagnostic_count(config) == 0 && strstr(fixed, "8000,7000,9000") != NULL);
    portknock_config_free(config);
}

static void files(const char *directory) {
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    char path[1000];
    FAILS(portknock_config_load("/no/such/file", &config, &error), PORTKNOCK_ERR_FILE, "/no/such/file: ");
    CHECK(portknock_config_load("/no/such/file", &config, &error) == PORTKNOCK_ERR_FILE);
    CHECK_TEXT(portknock_error_file(error), "/no/such/file");
    CHECK(portknock_error_line(error) == 0 && portknock_error_diagnostic_count(error) == 0);
    CHECK_TEXT(portknock_error_report(error), "");
    portknock_error_free(error);
    /* A name may contain bytes that are not UTF-8. */
    snprintf(path, sizeof path, "%s/\xff.conf", directory);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs("[ssh]\nsequence = 1,2\ncommand = true\n", file);
    fclose(file);
    OK(portknock_config_load(path, &config, &error));
    CHECK(portknock_config_door_count(config) == 1);
    portknock_config_free(config);
}

static void misuse(void) {
    portknock_error *error = NULL;
    portknock_config *config = NULL;
    FAILS(portknock_config_load(NULL, &config, &error), PORTKNOCK_ERR_ARGUMENT, "path is NULL");
    FAILS(portknock_config_load("/dev/null", NULL, &error), PORTKNOCK_ERR_ARGUMENT, "config is NULL");
    FAILS(portknock_config_parse(NULL, 1, NULL, &config, &error), PORTKNOCK_ERR_ARGUMENT, "text is NULL");
    FAILS(portknock_config_parse("", (size_t)-1, NULL, &config, &error), PORTKNOCK_ERR_ARGUMENT, "text cannot have");
    CHECK(portknock_config_load(NULL, NULL, NULL) == PORTKNOCK_ERR_ARGUMENT);
    CHECK(portknock_config_door_count(NULL) == 0 && portknock_config_json(NULL) == NULL);
    CHECK(portknock_config_diagnostic_count(NULL) == 0 && portknock_config_diagnostic(NULL, 0) == NULL);
    CHECK_TEXT(portknock_config_report(NULL), "");
    portknock_config_free(NULL);
    CHECK(portknock_error_status(NULL) == PORTKNOCK_ERR_ARGUMENT);
    CHECK_TEXT(portknock_error_message(NULL), "");
    CHECK_TEXT(portknock_error_report(NULL), "");
    CHECK(portknock_error_file(NULL) == NULL && portknock_error_line(NULL) == 0 && portknock_error_column(NULL) == 0);
    CHECK(portknock_error_diagnostic_count(NULL) == 0 && portknock_error_diagnostic(NULL, 0) == NULL);
    portknock_error_free(NULL);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    versions_and_sizes();
    a_good_configuration();
    warnings_stay_with_the_configuration();
    errors_have_everything();
    a_fix_is_data();
    files(argv[1]);
    misuse();
    return 0;
}
