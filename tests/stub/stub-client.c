/* Drives client/stub line by line from standard input, so that tests see one handle live on. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/stub/consulcfg-stub.h"

static char value[24 << 20]; /* above max_value of the daemon */

static void print_result(long result)
{
	if (result < 0)
		printf("error %s\n", strerror((int)-result));
	else
		printf("ok %ld\n", result);
}

static void print_bytes(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", (unsigned char)bytes[i]);
	printf("\n");
}

static void get(struct ccfg_stub *stub, const char *key, size_t size)
{
	memset(value, 'x', size + 1);
	ssize_t len = ccfg_stub_get(stub, key, value, size);
	if (value[size] != 'x') {
		printf("written behind the buffer\n");
		return;
	}
	print_result(len);
	if (len >= 0 && size > 0)
		print_bytes(value, (size_t)len < size ? (size_t)len + 1 : size);
}

struct listing {
	struct ccfg_stub *stub;
	int n, max;
};

static int on_entry(const char *key, const char *bytes, size_t len, void *userdata)
{
	struct listing *listing = userdata;

	if (ccfg_stub_get(listing->stub, key, NULL, 0) != -EDEADLK)
		return 99;
	printf("%s %zu ", key, len);
	print_bytes(bytes, strlen(bytes));
	return ++listing->n == listing->max ? 7 : 0;
}

static void command(struct ccfg_stub *stub, char *line, uint64_t *generation)
{
	char *name = strtok(line, " "), *argument = strtok(NULL, " ");
	struct listing listing = { stub, 0, 0 };

	if (!name)
		return;
	if (!argument)
		argument = line + strlen(line);
	if (strcmp(name, "get") == 0)
		get(stub, argument, sizeof(value) - 1);
	else if (strcmp(name, "get-4") == 0)
		get(stub, argument, 4);
	else if (strcmp(name, "get-0") == 0)
		get(stub, argument, 0);
	else if (strcmp(name, "list") == 0)
		print_result(ccfg_stub_list(stub, argument, value, 16, on_entry, &listing));
	else if (strcmp(name, "list-2") == 0 && (listing.max = 2))
		print_result(ccfg_stub_list(stub, argument, value, 16, on_entry, &listing));
	else if (strcmp(name, "wait") == 0)
		print_result(ccfg_stub_wait(stub, generation, atoi(argument)));
	else if (strcmp(name, "wait-from-0") == 0 && (*generation = 0, 1))
		print_result(ccfg_stub_wait(stub, generation, atoi(argument)));
	else
		printf("what is %s?\n", name);
}

int main(int argc, char **argv)
{
	struct ccfg_stub stub;
	uint64_t generation = 0;
	static char line[8192];

	if (argc != 4)
		return 2;
	print_result(ccfg_stub_open(&stub, argv[1], argv[2], atoi(argv[3])));
	printf("done\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		command(&stub, line, &generation);
		printf("done\n");
		fflush(stdout);
	}
	ccfg_stub_close(&stub);
	return 0;
}
