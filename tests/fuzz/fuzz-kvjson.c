/*
 * Answers of Consul. The first byte picks the size of the chunks they arrive in; the corpus is
 * tests/corpus/kvjson.
 */
#include "daemon/kvjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kvjson *kvjson;
	struct kvset *set;
	size_t chunk = size > 0 ? 1 + data[0] : 1;
	int r = 0;

	if (kvset_new(1 << 16, NULL, &set) < 0)
		return 0;
	if (kvjson_new("config/a/", 1 << 12, set, &kvjson) == 0) {
		for (size_t off = 0; off < size && r == 0; off += chunk) {
			size_t n = MIN(chunk, size - off);
			uint8_t *copy = malloc(n);

			if (!copy)
				break;
			memcpy(copy, data + off, n);
			r = kvjson_feed(kvjson, copy, n);
			free(copy);
		}
		if (r == 0)
			kvjson_finish(kvjson);
		kvset_finish(set);
		kvjson_free(kvjson);
	}
	kvset_unref(set);
	return 0;
}
