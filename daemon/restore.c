#include "daemon/restore.h"

#include "daemon/loss.h"

struct restore {
	struct backup *backup;
	struct backup_load *load; /* NULL: the image is there */
	struct snapshot *snapshot;
	bool is_taken;
	uint64_t flags_digest;
	uint64_t layer_index[LIMIT_LAYERS];
	struct kvset *layers[LIMIT_LAYERS];
	unsigned n_layers;
	bool has_overrides; /* in the image of the only layer */
	size_t cursor; /* of the records that were looked at, or dealt out */
	struct loss loss; /* while a layer is compared, */
	struct kvset *said; /* with this; NULL: none is */
};

int restore_new(struct backup *backup, const char *names, size_t names_size, unsigned n_layers,
	struct restore **ret_restore)
{
	struct restore *restore = calloc(1, sizeof(*restore));
	int r;

	if (!restore)
		return -ENOMEM;
	restore->backup = backup;
	restore->n_layers = n_layers;
	r = backup_load(backup, names, names_size, &restore->load);
	if (r < 0) {
		free(restore);
		return r;
	}
	*ret_restore = restore;
	return 0;
}

struct restore *restore_free(struct restore *restore)
{
	if (!restore)
		return NULL;
	backup_load_free(restore->load);
	snapshot_unref(restore->snapshot);
	kvset_unref(restore->said);
	for (unsigned i = 0; i < restore->n_layers; i++)
		kvset_unref(restore->layers[i]);
	free(restore);
	return NULL;
}

static void finish_load(struct restore *restore)
{
	const struct backup_footer *footer = &backup_load_format(restore->load)->footer;

	restore->snapshot = backup_load_take(restore->load);
	restore->flags_digest = le64_get(footer->flags_digest);
	for (unsigned i = 0; i < restore->n_layers; i++)
		restore->layer_index[i] = le64_get(footer->layer_index[i]);
	restore->load = backup_load_free(restore->load);
}

static int step_load(struct restore *restore)
{
	int r = backup_load_step(restore->load);

	if (r == 0) {
		finish_load(restore);
		return 1;
	}
	if (r < 0) {
		restore->load = backup_load_free(restore->load);
		backup_refuse(restore->backup, r);
	}
	return r;
}

/* The image's records are the only layer's. */
static int lend(struct restore *restore)
{
	const struct image *image = &restore->snapshot->image;
	int r = kvset_borrow(image, snapshot_give_back, restore->snapshot, &restore->layers[0]);

	if (r < 0)
		return r;
	snapshot_ref(restore->snapshot);
	restore->layers[0]->flags_digest = restore->flags_digest;
	return 0;
}

/* What operators had put in the place of the source's keys is of no layer. */
static int look_for_overrides(struct restore *restore)
{
	struct record record;

	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES; i++) {
		if (!image_next(&restore->snapshot->image, "", 0, &restore->cursor, &record))
			return lend(restore);
		if (record.layer >= restore->n_layers) {
			restore->has_overrides = true;
			restore->cursor = 0;
			return 1;
		}
	}
	return 1;
}

static int make_layers(struct restore *restore)
{
	for (unsigned i = 0; i < restore->n_layers; i++) {
		int r = kvset_new(restore->snapshot->image.size, NULL, &restore->layers[i]);

		if (r < 0)
			return r;
	}
	return 1;
}

static int finish_layers(struct restore *restore)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < restore->n_layers; i++)
		r = kvset_finish(restore->layers[i]);
	return r;
}

/* Each record to the layer it came from. */
static int deal_out(struct restore *restore)
{
	struct record record;

	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES; i++) {
		int r;

		if (!image_next(&restore->snapshot->image, "", 0, &restore->cursor, &record))
			return finish_layers(restore);
		if (record.layer >= restore->n_layers)
			continue;
		r = kvset_add(restore->layers[record.layer], record.key, record.key_len,
			record.value, record.value_len, record.flags, record.modify_index);
		if (r < 0)
			return r;
	}
	return 1;
}

int restore_step(struct restore *restore)
{
	if (restore->load)
		return step_load(restore);
	if (restore->n_layers == 1 && !restore->has_overrides)
		return look_for_overrides(restore);
	return restore->layers[0] ? deal_out(restore) : make_layers(restore);
}

struct snapshot *restore_take(struct restore *restore)
{
	if (!restore->snapshot || restore->is_taken)
		return NULL;
	restore->is_taken = true;
	return snapshot_ref(restore->snapshot);
}

int restore_compare(struct restore *restore, unsigned layer, struct kvset *said)
{
	if (layer >= restore->n_layers || !restore->layers[layer])
		return 0;
	if (!restore->said) {
		restore->layers[layer]->index = restore->layer_index[layer];
		restore->said = kvset_ref(said);
		loss_init(&restore->loss, restore->layers[layer], restore->said, NULL);
	}
	if (loss_step(&restore->loss, LIMIT_SLICE_ENTRIES) > 0)
		return 1;
	restore->said = kvset_unref(restore->said);
	return loss_is_suspicious(&restore->loss) ? -ENODATA : 0;
}

struct kvset *restore_take_layer(struct restore *restore, unsigned layer)
{
	if (layer >= restore->n_layers || !restore->layers[layer])
		return NULL;
	restore->layers[layer]->index = restore->layer_index[layer];
	return TAKE_PTR(restore->layers[layer]);
}
