/*
 * A tenant: a tree that has no poll of its own and lives behind a doorbell. Knows up to which index
 * of Consul's the contents are known to be right; must not know who asks.
 */
#pragma once

#include "daemon/ordered.h"
#include "daemon/tree.h"

struct doorbell;

struct tenant {
	RB_ENTRY(tenant) link; /* tenants, by prefix */
	struct tree *tree; /* with contents; outlives the tenant */
	struct doorbell *bell; /* the one it lives behind; NULL: none yet */
	uint64_t index; /* of the answer that the contents came from; 0: they are doubted */
	bool was_absent; /* when it moved in */
	uint64_t rung_at; /* loop_now() of the ring that it is read after; 0: of none */
	uint64_t known; /* every write up to this index is in the contents */
};

RB_HEAD(tenant_table, tenant);

struct tenants {
	struct tenant_table table;
	/*
	 * The highest index that any answer had: every write up to it is in what is asked for from
	 * now on. 0 when the store may have become another one.
	 */
	uint64_t floor;
	unsigned n_searching;
	struct list searches; /* search::turn_link, waiting */
};

void tenants_init(struct tenants *tenants);
/* The prefix of a tree comes once. */
void tenants_add(struct tenants *tenants, struct tenant *tenant);
void tenants_remove(struct tenants *tenants, struct tenant *tenant);

/* In order, those whose prefix begins with this one; NULL: no more. */
struct tenant *tenants_first(struct tenants *tenants, const char *prefix);
struct tenant *tenant_next(struct tenant *tenant, const char *prefix);

/* The last one whose prefix begins with the first `len` bytes of this one's; len at least 1. */
struct tenant *tenant_last_alike(struct tenants *tenants, struct tenant *tenant, size_t len);

/* An answer had this index. */
void tenants_see(struct tenants *tenants, uint64_t index);

/* The contents may be of another store: the next search has them read, where there are any. */
void tenant_forget(struct tenant *tenant);

/* Whether its tree holds nothing. */
bool tenant_is_absent(const struct tenant *tenant);
