/*
 * A configuration file, through everything that reads one; the corpus is tests/corpus/config. What
 * is refused has a message of one line.
 */
#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>

#include "daemon/config.h"
#include "daemon/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct config *config)
{
	static const char *const names[] = { "billing", "web", "batch-1", "-hidden" };
	char *prefixes[LIMIT_LAYERS];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int n = config_layers(config, names[i], prefixes);

		assert(n > 0);
		while (n-- > 0)
			free(prefixes[n]);
		for (unsigned j = 0; j < config->n_sockets; j++)
			(void)config_socket_shows(&config->sockets[j], names[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_CLOSE int fd = memfd_create("config", MFD_CLOEXEC);
	struct options options = { 0 };
	struct config *config;
	char *message = NULL;
	char path[64];
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	log_set_level(LOG_LEVEL_ERROR); /* names that this host does not know */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	options.config_file = path;
	r = config_load(&options, &config, &message);
	if (r < 0) {
		assert(message && !strchr(message, '\n'));
		free(message);
		return 0;
	}
	use(config);
	config_free(config);
	return 0;
}
