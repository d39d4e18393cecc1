#include "daemon/config-check.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/access.h"
#include "daemon/judge.h"
#include "daemon/token.h"

static int explain(char **ret_message, const char *key, const char *path, int error)
{
	if (asprintf(ret_message, "[consul] %s=%s: %s", key, path, token_error(error)) < 0)
		*ret_message = NULL;
	return error;
}

static int check_one(const char *key, const char *path, mode_t type, char **ret_message)
{
	AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
	struct stat st;

	if (!path)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return explain(ret_message, key, path, -errno);
	if ((st.st_mode & S_IFMT) != type)
		return explain(ret_message, key, path, type == S_IFDIR ? -ENOTDIR : -EINVAL);
	return 0;
}

/* An empty file leaves the token of the environment. */
static int check_token(const struct config *config, char **ret_message)
{
	int r = config->token_file ? token_check(config->token_file) : 0;

	if (r == 0 || (r == -ENODATA && config->token))
		return 0;
	return explain(ret_message, "token_file", config->token_file, r);
}

static int check_schema(const struct config_rule *rule, char **ret_message)
{
	struct judge judge = { 0 };
	int r = judge_configure(&judge, rule->schema);

	if (r == 0)
		r = judge_read(&judge);
	if (r == 0 && judge.trouble) {
		r = -EINVAL;
		if (asprintf(ret_message, "[service %s] %s", rule->glob, judge.trouble) < 0)
			*ret_message = NULL;
	}
	judge_done(&judge);
	return r;
}

static int check_consul(const struct config *config, char **ret_message)
{
	const struct {
		const char *key, *path;
		mode_t type;
	} files[] = {
		{ "ca_file", config->ca_file, S_IFREG },
		{ "ca_path", config->ca_path, S_IFDIR },
		{ "cert_file", config->cert_file, S_IFREG },
		{ "key_file", config->key_file, S_IFREG },
	};
	int r = check_token(config, ret_message);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++)
		r = check_one(files[i].key, files[i].path, files[i].type, ret_message);
	return r;
}

/* Of a socket: without it the daemon does not start. */
static int check_group(const char *socket, const char *group, char **ret_message)
{
	struct access_subject subject;
	AUTO_FREE char *text = NULL;
	int r;

	if (!group)
		return 0;
	if (asprintf(&text, "group:%s", group) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = access_subject_resolve(text, &subject);
	if (r < 0 && asprintf(ret_message, "[socket%s%s] group=%s: this host has no such group",
			     *socket ? " " : "", socket, group) < 0)
		*ret_message = NULL;
	return r;
}

int config_check_files(const struct config *config, char **ret_message)
{
	int r = 0;

	*ret_message = NULL;
	if (config->source == CONFIG_SOURCE_CONSUL)
		r = check_consul(config, ret_message);
	for (unsigned i = 0; r == 0 && i < config->n_rules; i++)
		r = check_schema(&config->rules[i], ret_message);
	if (r == 0)
		r = check_group("", config->socket_group, ret_message);
	for (unsigned i = 0; r == 0 && i < config->n_sockets; i++)
		r = check_group(config->sockets[i].name, config->sockets[i].group, ret_message);
	return r;
}
