#include "daemon/tenant.h"

static int compare_tenants(const struct tenant *a, const struct tenant *b)
{
	return strcmp(a->tree->prefix, b->tree->prefix);
}

ORDERED_GENERATE(tenants, tenant, link, compare_tenants)

static struct tenant *if_begins(struct tenant *tenant, const char *prefix)
{
	if (!tenant || strncmp(tenant->tree->prefix, prefix, strlen(prefix)) != 0)
		return NULL;
	return tenant;
}

void tenants_init(struct tenants *tenants)
{
	RB_INIT(tenants);
}

void tenants_add(struct tenants *tenants, struct tenant *tenant)
{
	RB_INSERT(tenants, tenants, tenant);
}

void tenants_remove(struct tenants *tenants, struct tenant *tenant)
{
	RB_REMOVE(tenants, tenants, tenant);
}

struct tenant *tenants_first(struct tenants *tenants, const char *prefix)
{
	struct tree tree = { .prefix = (char *)(uintptr_t)prefix };
	struct tenant wanted = { .tree = &tree };

	return if_begins(RB_NFIND(tenants, tenants, &wanted), prefix);
}

struct tenant *tenant_next(struct tenant *tenant, const char *prefix)
{
	return if_begins(RB_NEXT(tenants, NULL, tenant), prefix);
}

bool tenant_is_absent(const struct tenant *tenant)
{
	return tenant->tree->content->records.n == 0;
}
