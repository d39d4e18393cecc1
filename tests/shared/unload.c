/* A program that loads the library as a plugin would, reads in a thread, unloads it, then ends the
 * thread. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/lib/consulcfg.h"

static sem_t has_read, may_end;
static void *library;
static ccfg *cfg;

/* Functions and data are of one size on Linux; C does not know that. */
static void find(const char *name, void *ret_function)
{
	*(void **)ret_function = dlsym(library, name);
	if (!*(void **)ret_function)
		abort();
}

static void *read_and_stay(void *unused)
{
	ssize_t (*get)(ccfg *, const char *, char *, size_t);

	(void)unused;
	find("ccfg_get", &get);
	printf("%zd\n", get(cfg, "key", NULL, 0));
	sem_post(&has_read);
	sem_wait(&may_end);
	return NULL;
}

int main(int argc, char **argv)
{
	struct ccfg_options options = { .size = sizeof(options) };
	int (*open)(const char *, const struct ccfg_options *, ccfg **);
	void (*close)(ccfg *);
	pthread_t thread;

	if (argc < 4)
		return 2;
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return 3;
	find("ccfg_open", &open);
	find("ccfg_close", &close);
	options.socket_path = argv[3];
	if (open(argv[2], &options, &cfg) < 0)
		return 4;
	sem_init(&has_read, 0, 0);
	sem_init(&may_end, 0, 0);
	pthread_create(&thread, NULL, read_and_stay, NULL);
	sem_wait(&has_read);
	close(cfg);
	dlclose(library);
	sem_post(&may_end);
	pthread_join(thread, NULL);
	return 0;
}
