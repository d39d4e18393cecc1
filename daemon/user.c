#include "daemon/user.h"

static struct absent *find_absent(const struct user *user, const struct service *service)
{
	LIST_FOREACH (node, &user->absent) {
		struct absent *absent = LIST_ENTRY(node, struct absent, link);

		if (absent->service == service)
			return absent;
	}
	return NULL;
}

static unsigned *count_of(struct absent *absent)
{
	return absent->is_loading ? &absent->user->n_loading : &absent->user->n_absent;
}

static void absent_free(struct absent *absent)
{
	--*count_of(absent);
	list_unlink(&absent->link);
	service_remove_waiter(&absent->waiter);
	while (!list_is_empty(&absent->openers)) {
		struct absent_opener *opener =
			LIST_ENTRY(absent->openers.next, struct absent_opener, link);

		list_unlink(&opener->link);
		opener->absent = NULL;
	}
	free(absent);
}

/* It has loaded, or what had no keys has some: such are no burden. */
static void on_published(struct service *service, void *userdata)
{
	struct absent *absent = userdata;

	if (!user_is_absent(service)) {
		absent_free(absent);
		return;
	}
	--*count_of(absent);
	absent->is_loading = false;
	++*count_of(absent);
}

static void add(struct absent *absent, struct user *user, struct service *service)
{
	absent->user = user;
	absent->service = service;
	list_init(&absent->openers);
	absent->is_loading = !service->snapshot;
	++*count_of(absent);
	list_append(&user->absent, &absent->link);
	absent->waiter.fn = on_published;
	absent->waiter.userdata = absent;
	service_add_waiter(service, &absent->waiter);
}

void users_init(struct users *users)
{
	for (unsigned i = 0; i < USERS_BUCKETS; i++)
		list_init(&users->buckets[i]);
	users->n = 0;
}

int users_add_client(struct users *users, uid_t uid, struct user **ret_user)
{
	struct list *bucket = &users->buckets[uid % USERS_BUCKETS];
	struct user *user;

	LIST_FOREACH (node, bucket) {
		user = LIST_ENTRY(node, struct user, link);
		if (user->uid != uid)
			continue;
		user->n_clients++;
		*ret_user = user;
		return 0;
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return -ENOMEM;
	user->users = users;
	user->uid = uid;
	user->n_clients = 1;
	list_init(&user->absent);
	list_append(bucket, &user->link);
	users->n++;
	*ret_user = user;
	return 0;
}

void user_remove_client(struct user *user)
{
	if (--user->n_clients > 0)
		return;
	list_unlink(&user->link);
	user->users->n--;
	free(user);
}

bool user_is_absent(const struct service *service)
{
	return !service->snapshot || service->snapshot->image.n_entries == 0;
}

bool user_may_open_absent(struct user *user, const struct service *service)
{
	if (user->n_absent < LIMIT_ABSENT_PER_USER &&
		((service && service->snapshot) || user->n_loading < LIMIT_LOADING_PER_USER))
		return true;
	return find_absent(user, service);
}

int user_add_absent(struct user *user, struct service *service, struct absent_opener *opener)
{
	struct absent *absent = find_absent(user, service);

	if (!absent) {
		absent = calloc(1, sizeof(*absent));
		if (!absent)
			return -ENOMEM;
		add(absent, user, service);
	}
	opener->absent = absent;
	list_append(&absent->openers, &opener->link);
	return 0;
}

void user_remove_absent(struct absent_opener *opener)
{
	struct absent *absent = TAKE_PTR(opener->absent);

	if (!absent)
		return;
	list_unlink(&opener->link);
	if (list_is_empty(&absent->openers))
		absent_free(absent);
}
