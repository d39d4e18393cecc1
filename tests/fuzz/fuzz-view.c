/*
 * The bytes of an image, as a client maps them: whatever they are, every lookup and every walk ends
 * within them. The first bytes of a good header are put in front, so that most inputs get beyond
 * it; the corpus is tests/corpus/image.
 */
#include "client/lib/consulcfg.h"
#include "client/lib/view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum_of(const char *bytes, size_t len)
{
	unsigned sum = 0;

	for (size_t i = 0; i <= len; i++) /* with the NUL */
		sum += (unsigned char)bytes[i];
	return sum;
}

static void use(const struct ccfg_view *view)
{
	static const char *const prefixes[] = { "", "d", "db/", "zz" };
	struct ccfg_entry entry = { .size = sizeof(entry) };
	unsigned sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		size_t cursor = 0, len = 0;
		const char *value;

		while (ccfg_view_next(view, prefixes[i], &cursor, &entry)) {
			sum += sum_of(entry.key, entry.key_len);
			sum += sum_of(entry.value, entry.value_len);
			value = ccfg_view_get(view, entry.key, entry.key_len, &len);
			sum += value ? sum_of(value, len) : 0;
		}
		value = ccfg_view_get(view, prefixes[i], strlen(prefixes[i]), &len);
		sum += value ? sum_of(value, len) : 0;
	}
	(void)image_verify(&view->image);
	if (sum == UINT32_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ccfg_view view = { .generation = 1 };
	struct image_header header;
	AUTO_FREE uint8_t *copy = malloc(size > 0 ? size : 1);

	if (!copy)
		return 0;
	if (size >= sizeof(header)) {
		memcpy(copy, data, size);
		memcpy(&header, copy, sizeof(header));
		memcpy(header.magic, IMAGE_MAGIC, sizeof(header.magic));
		header.major = le16_of(IMAGE_MAJOR);
		header.size = le64_of(size);
		memcpy(copy, &header, sizeof(header));
	}
	/* Exactly as long as it is: a byte too far is found. */
	if (image_open(copy, size, &view.image) == 0)
		use(&view);
	return 0;
}
