#include "daemon/tenant.h"

#include <limits.h>

#include "daemon/consul.h"

static int compare_tenants(const struct tenant *a, const struct tenant *b)
{
	return strcmp(a->tree->prefix, b->tree->prefix);
}

ORDERED_GENERATE(tenant_table, tenant, link, compare_tenants)

static struct tenant *if_begins(struct tenant *tenant, const char *prefix)
{
	if (!tenant || strncmp(tenant->tree->prefix, prefix, strlen(prefix)) != 0)
		return NULL;
	return tenant;
}

void tenants_init(struct tenants *tenants)
{
	RB_INIT(&tenants->table);
	tenants->floor = 0;
	tenants->n_searching = 0;
	list_init(&tenants->searches);
}

void tenants_add(struct tenants *tenants, struct tenant *tenant)
{
	RB_INSERT(tenant_table, &tenants->table, tenant);
}

void tenants_remove(struct tenants *tenants, struct tenant *tenant)
{
	RB_REMOVE(tenant_table, &tenants->table, tenant);
}

struct tenant *tenants_first(struct tenants *tenants, const char *prefix)
{
	struct tree tree = { .prefix = (char *)(uintptr_t)prefix };
	struct tenant wanted = { .tree = &tree };

	return if_begins(RB_NFIND(tenant_table, &tenants->table, &wanted), prefix);
}

struct tenant *tenant_next(struct tenant *tenant, const char *prefix)
{
	return if_begins(RB_NEXT(tenant_table, NULL, tenant), prefix);
}

struct tenant *tenant_last_alike(struct tenants *tenants, struct tenant *tenant, size_t len)
{
	const char *prefix = tenant->tree->prefix;
	AUTO_FREE char *behind = strndup(prefix, len);
	struct tree tree = { .prefix = behind };
	struct tenant wanted = { .tree = &tree };
	struct tenant *next;

	/* Prefixes are UTF-8: no byte of theirs is the last one there is. */
	if (!behind || (unsigned char)behind[len - 1] == UCHAR_MAX)
		return tenant;
	behind[len - 1]++;
	next = RB_NFIND(tenant_table, &tenants->table, &wanted);
	return next ? RB_PREV(tenant_table, NULL, next) : RB_MAX(tenant_table, &tenants->table);
}

void tenants_see(struct tenants *tenants, uint64_t index)
{
	tenants->floor = MAX(tenants->floor, consul_next_index(0, index));
}

void tenant_forget(struct tenant *tenant)
{
	tenant->index = tenant->known = 0;
}

bool tenant_is_absent(const struct tenant *tenant)
{
	return tenant->tree->content->records.n == 0;
}
