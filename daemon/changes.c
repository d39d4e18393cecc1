#include "daemon/changes.h"

#include <stdio.h>

#include "daemon/log.h"
#include "proto/key.h"

#define DELAY_USEC 20000 /* clients have their answers by then */
#define SLICE_BYTES (4u << 20) /* of values; about a millisecond */

/* One of two images, walked. */
struct side {
	struct snapshot *snapshot; /* NULL: not to be compared, or no more */
	size_t cursor;
	struct record record;
	bool has_record;
};

struct entry {
	struct change change;
	struct side old, new;
};

struct changes {
	struct loop_timer *timer;
	struct entry entries[LIMIT_CHANGES]; /* by number */
	uint64_t newest; /* number; 0: none yet */
	uint64_t next; /* the first that may wait to be compared */
	size_t n_waiting; /* bytes of images */
	struct log_pace pace;
};

static struct entry *entry_of(struct changes *changes, uint64_t number)
{
	return &changes->entries[number % LIMIT_CHANGES];
}

/* --- comparing --------------------------------------------------------------------------- */

static void advance(struct side *side)
{
	side->has_record = image_next(&side->snapshot->image, "", 0, &side->cursor, &side->record);
}

static void start_side(struct side *side, struct snapshot *snapshot)
{
	*side = (struct side){ .snapshot = snapshot_ref(snapshot) };
	advance(side);
}

static size_t waiting_size(const struct entry *entry)
{
	return entry->old.snapshot->image.size + entry->new.snapshot->image.size;
}

static void end_comparison(struct changes *changes, struct entry *entry)
{
	if (!entry->old.snapshot)
		return;
	changes->n_waiting -= waiting_size(entry);
	entry->old.snapshot = snapshot_unref(entry->old.snapshot);
	entry->new.snapshot = snapshot_unref(entry->new.snapshot);
}

static void note_key(struct change *change, enum change_kind kind, const struct record *record)
{
	size_t n = record->key_len + 2;
	char *at = change->keys + change->keys_len;

	change->n[kind]++;
	if (change->n_keys == LIMIT_CHANGE_KEYS || n > sizeof(change->keys) - change->keys_len)
		return;
	*at = (char)kind;
	memcpy(at + 1, record->key, record->key_len + 1);
	change->keys_len += n;
	change->n_keys++;
}

static bool is_same_value(const struct record *a, const struct record *b)
{
	return a->value_len == b->value_len && memcmp(a->value, b->value, a->value_len) == 0;
}

/* The first keys of both sides. Bytes that were compared. */
static size_t compare_one(struct entry *entry)
{
	struct side *old = &entry->old, *new = &entry->new;
	int order = !old->has_record   ? 1
		    : !new->has_record ? -1
				       : key_compare(old->record.key, old->record.key_len,
						 new->record.key, new->record.key_len);
	size_t n = order == 0 ? new->record.value_len : 0;

	if (order < 0)
		note_key(&entry->change, CHANGE_REMOVED, &old->record);
	else if (order > 0)
		note_key(&entry->change, CHANGE_ADDED, &new->record);
	else if (!is_same_value(&old->record, &new->record))
		note_key(&entry->change, CHANGE_CHANGED, &new->record);
	if (order <= 0)
		advance(old);
	if (order >= 0)
		advance(new);
	return n;
}

/* False: there is more. */
static bool compare_some(struct entry *entry)
{
	size_t n_bytes = 0;

	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES && n_bytes < SLICE_BYTES; i++) {
		if (!entry->old.has_record && !entry->new.has_record)
			return true;
		n_bytes += compare_one(entry);
	}
	return false;
}

/* --- telling ----------------------------------------------------------------------------- */

static void tell(struct changes *changes, const struct change *change)
{
	struct log_about about = {
		.id = LOG_SERVICE_CHANGED,
		.service = change->service,
		.generation = change->generation,
		.index = change->index,
	};

	if (!log_is_wanted(LOG_LEVEL_INFO) || !log_pace_take(&changes->pace, loop_now()))
		return;
	if (changes->pace.n_unsaid > 0)
		log_info("changes of services: %u lines left out", changes->pace.n_unsaid);
	changes->pace.n_unsaid = 0;
	if (change->is_compared)
		log_event(LOG_LEVEL_INFO, &about,
			"%s: new contents: %zu keys added, %zu changed, %zu removed",
			change->service, change->n[CHANGE_ADDED], change->n[CHANGE_CHANGED],
			change->n[CHANGE_REMOVED]);
	else
		log_event(LOG_LEVEL_INFO, &about, "%s: new contents", change->service);
}

/* The oldest that waits; NULL: none does. */
static struct entry *next_waiting(struct changes *changes)
{
	for (; changes->next <= changes->newest; changes->next++) {
		struct entry *entry = entry_of(changes, changes->next);

		if (entry->change.number == changes->next && entry->old.snapshot)
			return entry;
	}
	return NULL;
}

static void on_timer(void *userdata)
{
	struct changes *changes = userdata;
	struct entry *entry = next_waiting(changes);

	if (!entry)
		return;
	if (compare_some(entry)) {
		entry->change.is_compared = true;
		end_comparison(changes, entry);
		tell(changes, &entry->change);
	}
	if (next_waiting(changes))
		loop_timer_arm(changes->timer, 0);
}

/* --- life -------------------------------------------------------------------------------- */

int changes_new(struct loop *loop, struct changes **ret_changes)
{
	struct changes *changes = calloc(1, sizeof(*changes));

	if (!changes)
		return -ENOMEM;
	if (loop_timer_new(loop, on_timer, changes, &changes->timer) < 0) {
		free(changes);
		return -ENOMEM;
	}
	changes->next = 1;
	*ret_changes = changes;
	return 0;
}

struct changes *changes_free(struct changes *changes)
{
	if (!changes)
		return NULL;
	for (unsigned i = 0; i < LIMIT_CHANGES; i++)
		end_comparison(changes, &changes->entries[i]);
	loop_timer_free(changes->timer);
	free(changes);
	return NULL;
}

void changes_note(struct changes *changes, const char *service, struct snapshot *old,
	struct snapshot *new, uint64_t index)
{
	struct entry *entry = entry_of(changes, changes->newest + 1);
	size_t n = old->image.size + new->image.size;

	if (old->image.digest == new->image.digest)
		return;
	end_comparison(changes, entry);
	memset(&entry->change, 0, sizeof(entry->change));
	entry->change.number = ++changes->newest;
	entry->change.at = loop_realtime_usec();
	entry->change.generation = new->generation;
	entry->change.index = index;
	snprintf(entry->change.service, sizeof(entry->change.service), "%s", service);
	if (changes->n_waiting > 0 && changes->n_waiting + n > LIMIT_CHANGE_BYTES) {
		tell(changes, &entry->change);
		return;
	}
	changes->n_waiting += n;
	start_side(&entry->old, old);
	start_side(&entry->new, new);
	if (!loop_timer_is_armed(changes->timer))
		loop_timer_arm(changes->timer, DELAY_USEC);
}

uint64_t changes_newest(const struct changes *changes)
{
	return changes->newest;
}

const struct change *changes_find(const struct changes *changes, uint64_t number)
{
	const struct change *change = &changes->entries[number % LIMIT_CHANGES].change;

	return number != 0 && change->number == number ? change : NULL;
}
