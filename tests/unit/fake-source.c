#include "fake-source.h"

#include "test.h"

static int start(struct source *source, struct tree *tree, struct feed **ret_feed)
{
	struct fake_source *fake = CONTAINER_OF(source, struct fake_source, source);

	if (fake->fail_start != 0)
		return -fake->fail_start;
	for (size_t i = 0; i < FAKE_SOURCE_MAX; i++) {
		if (fake->feeds[i].tree)
			continue;
		fake->feeds[i].tree = tree;
		*ret_feed = &fake->feeds[i];
		return 0;
	}
	return -ENOBUFS;
}

static struct feed *stop(struct feed *feed)
{
	feed->tree = NULL;
	return NULL;
}

static void resync(struct feed *feed)
{
	feed->n_resyncs++;
}

static unsigned n_connections(const struct source *source)
{
	(void)source;
	return 0;
}

void fake_source_init(struct fake_source *fake)
{
	*fake = (struct fake_source){
		.source = { .name = "fake",
			.start = start,
			.stop = stop,
			.resync = resync,
			.n_connections = n_connections },
	};
}

struct tree *fake_source_tree(struct fake_source *fake, const char *prefix)
{
	for (size_t i = 0; i < FAKE_SOURCE_MAX; i++)
		if (fake->feeds[i].tree && std_streq(fake->feeds[i].tree->prefix, prefix))
			return fake->feeds[i].tree;
	return NULL;
}

bool fake_source_apply(struct fake_source *fake, const char *prefix, ...)
{
	struct tree *tree = fake_source_tree(fake, prefix);
	struct kvset *set;
	const char *pair;
	va_list args;

	assert_non_null(tree);
	assert_int_equal(kvset_new(1 << 20, NULL, &set), 0);
	va_start(args, prefix);
	while ((pair = va_arg(args, const char *))) {
		const char *equals = strchr(pair, '=');

		assert_int_equal(kvset_add(set, pair, (size_t)(equals - pair), equals + 1,
					 strlen(equals + 1), 0, 1),
			0);
	}
	va_end(args);
	assert_int_equal(kvset_finish(set), 0);
	return tree_apply(tree, set);
}
