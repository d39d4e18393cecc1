/*
 * A plugin that uses the library is unloaded while threads live that have read: their ends run what
 * the library left with them. unload LIBRARY
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "client/lib/consulcfg.h"

static pthread_barrier_t has_read, is_unloaded;
static void *library;

/* POSIX has pointers to functions fit into those to data; C does not. */
static void find(const char *name, void *ret_function)
{
	*(void **)ret_function = dlsym(library, name);
}

static void *read_and_end(void *userdata)
{
	const struct ccfg_options options = {
		.size = sizeof(options),
		.socket_path = "/nonexistent/socket",
		.flags = CCFG_NOWAIT,
	};
	int (*open)(const char *, const struct ccfg_options *, ccfg **) = NULL;
	ssize_t (*get)(ccfg *, const char *, char *, size_t) = NULL;
	void (*close)(ccfg *) = NULL;
	bool *ret_is_right = userdata;
	ccfg *cfg;

	find("ccfg_open", &open);
	find("ccfg_get", &get);
	find("ccfg_close", &close);
	*ret_is_right = open("a", &options, &cfg) == 0 && get(cfg, "none", NULL, 0) < 0;
	close(cfg);
	pthread_barrier_wait(&has_read);
	pthread_barrier_wait(&is_unloaded);
	return NULL;
}

int main(int argc, char **argv)
{
	bool is_right = false;
	pthread_t thread;

	library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (!library) {
		fprintf(stderr, "unload: %s\n", argc == 2 ? dlerror() : "which library?");
		return 1;
	}
	pthread_barrier_init(&has_read, NULL, 2);
	pthread_barrier_init(&is_unloaded, NULL, 2);
	if (pthread_create(&thread, NULL, read_and_end, &is_right) != 0)
		return 1;
	pthread_barrier_wait(&has_read);
	dlclose(library);
	pthread_barrier_wait(&is_unloaded);
	pthread_join(thread, NULL);
	return is_right ? 0 : 1;
}
