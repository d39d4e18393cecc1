#include "daemon/consul-source.h"

#include "daemon/agent.h"
#include "daemon/doorbells.h"
#include "daemon/list.h"
#include "daemon/resync.h"
#include "daemon/watch.h"

struct consul_source {
	struct source source;
	struct agent *agent;
	struct doorbells *doorbells;
	struct list feeds; /* feed::link */
};

struct feed {
	struct list link; /* consul_source::feeds */
	struct agent *agent;
	struct watch *watch;
	struct resync *resync;
};

static struct consul_source *consul_source_of(const struct source *source)
{
	return CONTAINER_OF((void *)(uintptr_t)source, struct consul_source, source);
}

static struct feed *stop(struct feed *feed)
{
	if (!feed)
		return NULL;
	feed->agent->n_trees--;
	resync_free(feed->resync);
	watch_free(feed->watch);
	list_unlink(&feed->link);
	free(feed);
	return NULL;
}

static int start(struct source *source, struct tree *tree, struct feed **ret_feed)
{
	struct consul_source *consul = consul_source_of(source);
	struct feed *feed = calloc(1, sizeof(*feed));
	int r;

	if (!feed)
		return -ENOMEM;
	list_init(&feed->link);
	feed->agent = consul->agent;
	feed->agent->n_trees++;
	r = watch_new(consul->agent, consul->doorbells, tree, &feed->watch);
	if (r == 0)
		r = resync_new(consul->agent, tree, feed->watch, &feed->resync);
	if (r < 0) {
		stop(feed);
		return r;
	}
	list_append(&consul->feeds, &feed->link);
	*ret_feed = feed;
	return 0;
}

static void resync(struct feed *feed)
{
	watch_hurry(feed->watch);
	resync_now(feed->resync);
}

static void doubt(struct feed *feed)
{
	watch_doubt(feed->watch);
}

static unsigned n_connections(const struct source *source)
{
	return agent_n_connections(consul_source_of(source)->agent);
}

static uint64_t n_repairs(const struct source *source)
{
	return consul_source_of(source)->agent->n_repairs;
}

int consul_source_new(struct loop *loop, const struct config *config, struct source **ret_source)
{
	struct consul_source *consul = calloc(1, sizeof(*consul));
	int r;

	if (!consul)
		return -ENOMEM;
	consul->source = (struct source){
		.name = "consul",
		.start = start,
		.stop = stop,
		.resync = resync,
		.doubt = doubt,
		.n_connections = n_connections,
		.n_repairs = n_repairs,
	};
	list_init(&consul->feeds);
	r = agent_new(loop, config, &consul->agent);
	if (r == 0)
		r = doorbells_new(consul->agent, &watch_tenant_functions, &consul->doorbells);
	if (r < 0) {
		agent_free(consul->agent);
		free(consul);
		return r;
	}
	*ret_source = &consul->source;
	return 0;
}

struct source *consul_source_free(struct source *source)
{
	struct consul_source *consul;

	if (!source)
		return NULL;
	consul = consul_source_of(source);
	doorbells_free(consul->doorbells);
	agent_free(consul->agent);
	free(consul);
	return NULL;
}

int consul_source_reconfigure(struct source *source, const struct config *config)
{
	struct consul_source *consul = consul_source_of(source);
	struct agent *agent = consul->agent;
	bool is_elsewhere = agent_is_elsewhere(agent, config);
	bool is_rescheduled = agent->config->resync_usec != config->resync_usec;
	int r;

	LIST_FOREACH (node, &consul->feeds) {
		struct feed *feed = LIST_ENTRY(node, struct feed, link);

		if (is_elsewhere) {
			watch_stop(feed->watch);
			resync_stop(feed->resync);
		}
	}
	if (is_elsewhere)
		doorbells_stop(consul->doorbells);
	r = agent_configure(agent, config, is_elsewhere);
	doorbells_reconfigure(consul->doorbells);
	LIST_FOREACH (node, &consul->feeds) {
		struct feed *feed = LIST_ENTRY(node, struct feed, link);

		if (is_elsewhere)
			watch_restart(feed->watch);
		if (is_elsewhere || (r == 0 && is_rescheduled))
			resync_schedule(feed->resync);
	}
	return r;
}

bool consul_source_is_on_time(const struct source *source)
{
	const struct consul_source *consul = consul_source_of(source);
	uint64_t now = loop_now();

	LIST_FOREACH (node, &consul->feeds) {
		const struct feed *feed = LIST_ENTRY(node, struct feed, link);

		if (!watch_is_on_time(feed->watch, now) || !resync_is_on_time(feed->resync, now))
			return false;
	}
	return doorbells_is_on_time(consul->doorbells, now);
}
