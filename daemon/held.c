#include "daemon/held.h"

#include "proto/hash.h"

bool held_find(const struct service *service, struct held *ret_held)
{
	struct held held = { .since = UINT64_MAX };

	for (unsigned i = 0; i < service->n_layers; i++) {
		const struct tree_held *of_tree = &service->layers[i].tree->held;

		if (!of_tree->set)
			continue;
		if (held.n_layers++ == 0) {
			held.reason = of_tree->reason;
			held.digest = of_tree->set->digest;
		} else {
			held.digest = hash_chain(
				held.digest, &of_tree->set->digest, sizeof(of_tree->set->digest));
		}
		held.since = MIN(held.since, of_tree->since);
		held.n_keys += of_tree->set->records.n;
	}
	if (held.n_layers > 0)
		*ret_held = held;
	return held.n_layers > 0;
}

void held_sets(const struct service *service, struct kvset *ret_sets[LIMIT_LAYERS])
{
	for (unsigned i = 0; i < service->n_layers; i++) {
		const struct tree *tree = service->layers[i].tree;

		ret_sets[i] = tree->held.set ? tree->held.set : tree->content;
	}
}

void held_accept(struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++)
		tree_accept(service->layers[i].tree);
}
