/*
 * Consul's answer to a recursive KV read, parsed while it arrives: JSON in, entries out into a
 * kvset. The door to yajl's parser. Knows the members of an entry; must not know HTTP.
 *
 *   [ { "Key": "config/a/x", "Value": "base64" or null, "Flags": 0, "ModifyIndex": 7, … }, … ]
 *
 * An entry needs Key and Value; Flags and ModifyIndex are unsigned 64-bit numbers and 0 when they
 * are absent; other members are ignored, whatever they are, down to LIMIT_JSON_DEPTH. Of a member
 * that comes twice the last one counts. A null value is an empty one, but "folder" keys (a null
 * value and a '/' at the end) and the prefix itself are no entries and left out.
 */
#pragma once

#include "daemon/kvset.h"

struct kvjson;

/* The set is borrowed and filled; it is not finished here. 0, -ENOMEM. */
int kvjson_new(
	const char *prefix, uint64_t max_value, struct kvset *set, struct kvjson **ret_kvjson);
struct kvjson *kvjson_free(struct kvjson *kvjson);

/*
 * The next bytes, in pieces of any size. 0; -EBADMSG: not such an answer, or a key outside the
 * prefix; -EFBIG: a value above max_value, or more than the set may hold; -ENOMEM. Errors stay.
 */
int kvjson_feed(struct kvjson *kvjson, const void *data, size_t len);

/* After the last byte: 0 when all of the answer was there, else as above. */
int kvjson_finish(struct kvjson *kvjson);

/* What was wrong, a few words without any byte of the answer; NULL: nothing so far. */
const char *kvjson_error(const struct kvjson *kvjson);
