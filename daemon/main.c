/*
 * The daemon: builds its objects in flow order, turns signals into events, tears down in reverse.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/access.h"
#include "daemon/admin.h"
#include "daemon/backup.h"
#include "daemon/config-check.h"
#include "daemon/config.h"
#include "daemon/consul-source.h"
#include "daemon/directory.h"
#include "daemon/genfile.h"
#include "daemon/idle.h"
#include "daemon/journal.h"
#include "daemon/listeners.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/manager.h"
#include "daemon/memory.h"
#include "daemon/options.h"
#include "daemon/service.h"

#define EXIT_USAGE 2

/* Above it an allocation is a mapping of its own: it grows by moving pages, not by copying 10 MB
 * in one callback. */
#define MMAP_THRESHOLD (1 << 20)

struct daemon {
	struct options options;
	struct config *config;
	struct loop *loop;
	struct source *source;
	struct trees *trees;
	struct genfile *genfile;
	struct backups *backups;
	struct services *services;
	struct server *server;
	struct admin *admin;
	struct listeners *listeners;
	struct loop_signal *sigterm, *sigint, *sighup;
	struct loop_timer *watchdog;
	struct idle *idle; /* NULL: nobody would start the daemon again */
};

/* Takes the message. */
static int say(char *message, int error)
{
	fprintf(stderr, "consulcfgd: %s\n", message ? message : strerror(-error));
	free(message);
	return error;
}

static int PRINTF_FORMAT(2, 3) complain(int error, const char *format, ...)
{
	va_list args;

	fputs("consulcfgd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return error;
}

static int start_source(struct daemon *daemon)
{
	if (daemon->config->source == CONFIG_SOURCE_DIR)
		return directory_source_new(daemon->loop, daemon->config, &daemon->source);
	return consul_source_new(daemon->loop, daemon->config, &daemon->source);
}

static void stop_source(struct daemon *daemon)
{
	if (!daemon->source)
		return;
	if (daemon->config->source == CONFIG_SOURCE_DIR)
		daemon->source = directory_source_free(daemon->source);
	else
		daemon->source = consul_source_free(daemon->source);
}

static bool is_on_time(const struct daemon *daemon)
{
	return daemon->config->source == CONFIG_SOURCE_DIR ||
	       consul_source_is_on_time(daemon->source);
}

static int reconfigure_source(struct daemon *daemon, const struct config *config)
{
	if (config->source == CONFIG_SOURCE_DIR)
		return directory_source_reconfigure(daemon->source, config);
	return consul_source_reconfigure(daemon->source, config);
}

/* The new settings in place of the old ones; whatever refuses them leaves the old ones. */
static int apply_config(struct daemon *daemon, struct config *config)
{
	int r;

	if (config->source != daemon->config->source) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_RELOAD_REFUSED),
			"reload: another type of source needs a restart; the old settings stay");
		return -EINVAL;
	}
	r = reconfigure_source(daemon, config);
	if (r < 0) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_RELOAD_REFUSED),
			"reload: %s; the old settings stay", strerror(-r));
		return r;
	}
	listeners_keep(daemon->listeners, daemon->config, config);
	log_set_level(config->log_level);
	backups_configure(daemon->backups, config);
	r = services_configure(daemon->services, config);
	if (r < 0)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_RELOAD_REFUSED),
			"reload: not every service could be set up anew: %s", strerror(-r));
	server_configure(daemon->server, config);
	admin_configure(daemon->admin, config);
	if (daemon->idle)
		idle_configure(daemon->idle, config->idle_usec);
	return 0;
}

static void on_sighup(void *userdata)
{
	struct daemon *daemon = userdata;
	struct config *config;
	char *message = NULL;
	int r;

	manager_reloading();
	r = config_load(&daemon->options, &config, &message);
	if (r < 0) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_RELOAD_REFUSED),
			"reload: %s; the old settings stay", message ? message : strerror(-r));
		free(message);
	} else if (apply_config(daemon, config) < 0) {
		config_free(config);
	} else {
		config_free(daemon->config);
		daemon->config = config;
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_RELOADED), "reloaded");
	}
	manager_ready("serving");
}

static void on_stop_signal(void *userdata)
{
	struct daemon *daemon = userdata;

	loop_stop(daemon->loop);
}

/* A daemon whose watches are overdue by far is not alive, whatever its loop does. */
static void on_watchdog(void *userdata)
{
	struct daemon *daemon = userdata;

	if (is_on_time(daemon))
		manager_watchdog();
	loop_timer_arm(daemon->watchdog, manager_watchdog_usec() / 2);
}

static int start_watchdog(struct daemon *daemon)
{
	int r;

	if (manager_watchdog_usec() == 0)
		return 0;
	r = loop_timer_new(daemon->loop, on_watchdog, daemon, &daemon->watchdog);
	if (r < 0)
		return r;
	return loop_timer_arm(daemon->watchdog, manager_watchdog_usec() / 2);
}

static int start_genfile(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	bool is_lasting = true;
	int r;

	r = genfile_new(
		config->runtime_directory, config->max_services, &daemon->genfile, &is_lasting);
	if (r < 0)
		return r;
	if (!is_lasting)
		log_warning("%s takes no file: clients that only read will not notice a restart",
			config->runtime_directory);
	return 0;
}

/* Of the socket: those who may connect may read what the rules let all of them. */
static gid_t find_socket_group(const struct config *config)
{
	struct access_subject subject;
	char text[64];

	if (!config->socket_group)
		return (gid_t)-1;
	snprintf(text, sizeof(text), "group:%s", config->socket_group);
	return access_subject_resolve(text, &subject) == 0 ? (gid_t)subject.id : (gid_t)-1;
}

static int start_backups(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	int r;

	r = backups_new(daemon->loop, config, find_socket_group(config), &daemon->backups);
	if (r == -EADDRINUSE)
		return complain(-EBUSY,
			"%s is in use by a running daemon; stop it, or give this one another "
			"--state-directory",
			config->state_directory);
	if (r < 0)
		return r;
	r = state_directory_link(config->state_directory, config->runtime_directory);
	if (r < 0)
		log_warning("%s: no link to the state directory: %s; clients will not find "
			    "backups when no daemon runs",
			config->runtime_directory, strerror(-r));
	return 0;
}

static int start_signals(struct daemon *daemon)
{
	int r;

	r = loop_signal_new(daemon->loop, SIGTERM, on_stop_signal, daemon, &daemon->sigterm);
	if (r == 0)
		r = loop_signal_new(daemon->loop, SIGINT, on_stop_signal, daemon, &daemon->sigint);
	if (r == 0)
		r = loop_signal_new(daemon->loop, SIGHUP, on_sighup, daemon, &daemon->sighup);
	return r;
}

static int start_listeners(struct daemon *daemon)
{
	char *message = NULL;
	int r = listeners_new(daemon->server, daemon->config, &daemon->listeners, &message);

	return r < 0 ? say(message, r) : 0;
}

/* Ends an unused daemon only where the service manager listens on. */
static int start_idle(struct daemon *daemon)
{
	uint64_t idle_usec = daemon->config->idle_usec;

	if (listeners_are_passed(daemon->listeners))
		return idle_new(daemon->loop, daemon->server, idle_usec, &daemon->idle);
	if (idle_usec > 0)
		log_warning(
			"[exit] idle: without a socket of the service manager nobody would start "
			"the daemon again; it runs on");
	return 0;
}

static char *describe_rival(const struct config *config)
{
	char *message = NULL;

	if (asprintf(&message,
		    "%s is in use by a running daemon; stop it, or give this one another "
		    "--runtime-directory",
		    config->runtime_directory) < 0)
		return NULL;
	return message;
}

/*
 * Each client is a descriptor, and the usual soft limit of 1024 is for programs that use select(2).
 * Before the server looks how many clients there may be. A refusal leaves the limit as it was.
 */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int start(struct daemon *daemon)
{
	int r;

	raise_descriptor_limit();
	(void)memory_take(0); /* the first look is not in the way of the first publication */
	r = loop_new(&daemon->loop);
	if (r == 0)
		r = start_signals(daemon);
	/* Takes the runtime directory, where the source keeps a file too. */
	if (r == 0)
		r = start_genfile(daemon);
	if (r == 0)
		r = start_source(daemon);
	if (r == 0)
		r = trees_new(daemon->loop, daemon->source, &daemon->trees);
	if (r == 0)
		r = start_backups(daemon);
	if (r == 0)
		r = services_new(daemon->loop, daemon->trees, daemon->genfile, daemon->backups,
			daemon->config, &daemon->services);
	if (r == 0)
		r = server_new(daemon->loop, daemon->services, daemon->source, daemon->genfile,
			daemon->config, &daemon->server);
	if (r == 0)
		daemon->server->backups = daemon->backups;
	if (r == 0)
		r = services_configure(daemon->services, daemon->config);
	if (r == 0)
		r = start_watchdog(daemon);
	if (r == 0)
		r = admin_new(daemon->server, daemon->config, &daemon->admin);
	if (r == -EBUSY)
		return r; /* said */
	if (r == -EADDRINUSE)
		return say(describe_rival(daemon->config), r);
	if (r < 0)
		return say(NULL, r);
	r = start_listeners(daemon);
	if (r == 0)
		r = start_idle(daemon);
	if (r == 0)
		services_await_clients(daemon->services);
	return r;
}

static void stop(struct daemon *daemon)
{
	listeners_free(daemon->listeners);
	admin_free(daemon->admin);
	server_free(daemon->server);
	services_free(daemon->services);
	backups_free(daemon->backups);
	if (daemon->trees)
		trees_free(daemon->trees);
	stop_source(daemon);
	loop_timer_free(daemon->watchdog);
	idle_free(daemon->idle);
	genfile_free(daemon->genfile);
	loop_signal_free(daemon->sigterm);
	loop_signal_free(daemon->sigint);
	loop_signal_free(daemon->sighup);
	loop_free(daemon->loop);
	config_free(daemon->config);
}

/* --check */
static int check(struct config *config)
{
	char *message = NULL;
	int r = config_check_files(config, &message);

	if (r < 0)
		say(message, r);
	else
		puts("configuration ok");
	config_free(config);
	return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
}

/*
 * Without it nothing works: one line in front of those of everything that keeps a file there.
 * With a socket of the service manager it may be one that takes no file.
 */
static int require_runtime_directory(const struct config *config)
{
	const char *path = config->runtime_directory;

	if (getenv("LISTEN_FDS"))
		return 0;
	if ((mkdir(path, 0755) == 0 || errno == EEXIST) &&
		faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	return complain(-errno,
		"cannot use the runtime directory %s: %s; as a plain user give --runtime-directory "
		"and --state-directory",
		path, strerror(errno));
}

/* As --source has it. */
static char *describe_source(const struct config *config)
{
	bool is_dir = config->source == CONFIG_SOURCE_DIR;
	char *text = NULL;
	int n = asprintf(&text, "%s:%s%s", is_dir ? "dir" : "consul",
		is_dir ? config->dir : config->addresses[0],
		!is_dir && config->n_addresses > 1 ? " and others" : "");

	return n < 0 ? NULL : text;
}

static void say_serving(const struct daemon *daemon)
{
	AUTO_FREE char *source = describe_source(daemon->config);

	log_event(LOG_LEVEL_INFO, ABOUT(LOG_READY), "version %s serving at %s, source %s",
		CONSULCFGD_VERSION, listeners_describe(daemon->listeners, daemon->config),
		source ? source : daemon->source->name);
}

static int run(int argc, char *argv[])
{
	struct daemon daemon = { 0 };
	char *message = NULL;
	int r;

	r = options_parse(argc, argv, &daemon.options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	r = config_load(&daemon.options, &daemon.config, &message);
	if (r < 0) {
		say(message, r);
		return EXIT_USAGE;
	}
	if (daemon.options.check)
		return check(daemon.config);
	log_open_journal(JOURNAL_SOCKET);
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	log_set_level(daemon.config->log_level);
	r = require_runtime_directory(daemon.config);
	if (r == 0)
		r = start(&daemon);
	if (r == 0) {
		say_serving(&daemon);
		manager_ready("serving");
		r = loop_run(daemon.loop);
		manager_stopping();
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_STOPPING), "stopping");
	}
	stop(&daemon);
	log_close_journal();
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	int status;

	/*
	 * Tokens and values are in this memory, copies of libcurl's too, and in the environment: no
	 * core file, and nobody but root reads it through /proc.
	 */
	(void)prctl(PR_SET_DUMPABLE, 0);
	status = run(argc, argv);
	(void)prctl(PR_SET_DUMPABLE, 1); /* what was secret is wiped; leak checkers attach now */
	return status;
}
