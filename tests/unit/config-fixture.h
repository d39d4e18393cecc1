/*
 * What the tests of configurations stand on: a file of their own, an empty environment, and what
 * was loaded last.
 */
#pragma once

#include "test.h"

#include "daemon/access.h"
#include "daemon/config.h"
#include "daemon/options.h"

struct config_fixture {
	char dir[64];
	char file[128];
	struct options options;
	struct config *config;
	char *message;
};

int config_fixture_set_up(void **state);
int config_fixture_tear_down(void **state);

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, config_fixture_set_up, config_fixture_tear_down)

void config_fixture_write_file(const char *path, const void *data, size_t len);
/* The file that `options` name. */
void config_fixture_write(struct config_fixture *fixture, const char *text);
/* NAME in its .d directory. */
void config_fixture_write_fragment(
	struct config_fixture *fixture, const char *name, const char *text);
/* One --set. */
void config_fixture_set(struct config_fixture *fixture, const char *text);

/* What config_load() returns. */
int config_fixture_load(struct config_fixture *fixture);
/* The configuration, valid until the next load. */
const struct config *config_fixture_load_well(struct config_fixture *fixture);
/* -EINVAL, and a message of one line, without the tests' secret, that says this. */
void config_fixture_load_badly(struct config_fixture *fixture, const char *says);

/* The layers of a service, with spaces between. */
void config_fixture_check_layers(
	const struct config *config, const char *service, const char *expected);
/* The one address. */
void config_fixture_check_address(const struct config *config, const char *expected);
