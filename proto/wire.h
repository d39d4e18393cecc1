/*
 * The protocol on the socket, byte for byte; consulcfg-protocol(7) describes it for strangers.
 *
 * A stream of frames, each a 12-byte little-endian header and `length` bytes of payload. A reply
 * carries the op and the tag of its request; replies to waiting requests (OPEN, WATCH) may come
 * after later ones. A reply with a status but OK or KEEP carries one line of text for people.
 *
 * Descriptors (SCM_RIGHTS) come in the order of the replies that carry one, with their bytes or
 * with earlier ones. Who does not take replies gets no more of them: status LIMIT.
 *
 * The first request of a connection must be HELLO; others may follow in the same write.
 */
#pragma once

#include "proto/le.h"
#include "proto/limits.h"
#include "proto/std.h"

#define WIRE_MAJOR 1
#define WIRE_MINOR 0

enum wire_op {
	WIRE_HELLO = 1,
	/* req:   le16 lowest major, le16 highest major the client speaks, le16 highest image major,
	 *        le16 zero
	 * reply: le16 major, le16 minor, le16 image major, le16 zero, le32 pid, version text
	 */
	WIRE_OPEN = 2,
	/* Keeps the service alive while this connection lasts (or CLOSE), and waits for data.
	 * req:   le32 timeout in ms (0: do not wait, WIRE_FOREVER), service name
	 * reply: struct wire_info
	 */
	WIRE_CLOSE = 3,
	/* req: service name. reply: empty. Ends its WATCH requests too (status CLOSED). */
	WIRE_GET = 4,
	/* req:   u8 name length, service name, key
	 * reply: le64 generation, value. Status NO_KEY, NO_DATA.
	 * A service that is not open yet is opened without waiting.
	 */
	WIRE_MGET = 5,
	/* req:   u8 name length, service name, then per key le16 length, key
	 * reply: le64 generation, then per key le32 value length (WIRE_ABSENT: no such key), value
	 */
	WIRE_LIST = 6,
	/* req:   le64 generation (0: the current one), le64 cursor (0: from the start),
	 *        u8 name length, service name, key prefix
	 * reply: struct wire_list, then entries: struct wire_entry, key, value
	 * Ask again with the generation and cursor of the reply until its cursor is 0. A generation
	 * that is gone: status CHANGED, start over.
	 */
	WIRE_WATCH = 7,
	/* req:   le64 generation held, service name (open)
	 * reply: struct wire_info, as soon as the generation is another one
	 */
	WIRE_STATUS = 8,
	/* req:   u8 what (enum wire_status_what), text: SERVICE: its name; SERVICES: list on after
	 *        this name, empty from the start
	 * reply: u8 more (1: ask again after the last name), u8 length and last name, JSON:
	 *        one object, or for SERVICES objects separated by commas
	 */
	WIRE_FETCH = 9,
	/* Keeps the service alive as OPEN does.
	 * req:   le64 generation held (0: none), le32 timeout in ms (0: do not wait), service name
	 * reply: struct wire_fetch. OK: another generation than the one held, with a descriptor of
	 *        its image; KEEP: there is none (within the time), without a descriptor
	 */
	WIRE_GENFILE = 10,
	/* req:   empty
	 * reply: empty, with a descriptor of the generation file (proto/genfile.h)
	 */
	WIRE_ACCEPT = 11,
	/* For operators: what is held of a service becomes its contents.
	 * req:   u8 1: only if it has this digest, le64 digest, service name
	 * reply: struct wire_accepted. Status NO_KEY: nothing is held, CHANGED: another digest
	 */
	WIRE_RESYNC = 12,
	/* For operators: a full comparison with the source begins, beside the regular ones.
	 * req:   service name; empty: all services
	 * reply: empty
	 */
	WIRE_EXPLAIN = 13,
	/* What each layer of a service says of a key, and which of them counts.
	 * req:   u8 name length, service name, key
	 * reply: struct wire_explain, then per layer, lowest first: struct wire_layer, prefix, the
	 *        value's first bytes
	 */
	WIRE_HISTORY = 16,
	/* What the disk has of a service; for its readers and for operators.
	 * req:   service name
	 * reply: JSON objects, separated by commas, newest generation first. Status NO_KEY: nothing
	 */
	WIRE_RECALL = 17,
	/* One generation of the history.
	 * req:   le64 generation, service name
	 * reply: empty, with a descriptor of the backup (proto/backup-format.h). Status NO_KEY
	 */
	WIRE_PIN = 18,
	/* For operators: what a service serves, other than what its source says.
	 * req:   u8 what (enum wire_pin_what), le64 duration in usec (0: until it is undone),
	 *        u8 length and service name, u8 length and reason, le16 length and key, value
	 * reply: one line of text
	 */
	WIRE_PREVIEW = 19,
	/* What a service would serve if what is held of it were its contents; for its readers and
	 * for operators.
	 * req:   service name
	 * reply: empty, with a descriptor of its image. Status NO_KEY: nothing is held
	 */
};

enum wire_pin_what {
	WIRE_PIN_FREEZE = 1, /* key: a generation, "previous", "before:SECONDS", "digest:HEX" */
	WIRE_PIN_THAW = 2,
	WIRE_PIN_OVERRIDE = 3, /* key and value */
	WIRE_PIN_CLEAR = 4, /* key; empty: all overrides */
	WIRE_PIN_FORGET = 5, /* key: a generation; empty: all but the one that is served */
};

enum wire_status {
	WIRE_OK = 0,
	WIRE_NO_KEY = 1, /* no such key, or nothing to show */
	WIRE_NO_DATA = 2, /* the service has no data yet, or not within the time-out */
	WIRE_DENIED = 3,
	WIRE_BAD_REQUEST = 4, /* malformed; the connection ends after this reply */
	WIRE_BAD_NAME = 5, /* not a service name or key; the connection goes on */
	WIRE_LIMIT = 6, /* this user, connection or daemon has enough */
	WIRE_UNSUPPORTED = 7, /* unknown op, or no common version */
	WIRE_CHANGED = 8,
	WIRE_CLOSED = 9,
	WIRE_INTERNAL = 10,
	WIRE_KEEP = 11, /* nothing newer than what the client holds */
};

enum wire_state { /* of a service; the words of consulcfg-status */
	WIRE_LOADING = 0,
	WIRE_LIVE = 1,
	WIRE_STALE = 2,
	WIRE_BACKUP = 3,
	WIRE_HELD = 4,
	WIRE_FROZEN = 5,
};

enum wire_status_what {
	WIRE_STATUS_DAEMON = 0,
	WIRE_STATUS_SERVICES = 1,
	WIRE_STATUS_SERVICE = 2,
};

#define WIRE_FOREVER UINT32_MAX
#define WIRE_ABSENT UINT32_MAX

struct wire_header {
	le32 length;
	le16 op;
	le16 status; /* 0 in requests */
	le32 tag;
};

struct wire_hello {
	le16 min_major;
	le16 max_major;
	le16 image_major;
	le16 zero;
};

struct wire_hello_reply {
	le16 major;
	le16 minor;
	le16 image_major;
	le16 zero;
	le32 pid;
};

struct wire_info {
	le64 generation;
	le64 digest;
	le64 n_entries;
	le64 age_usec; /* since the source last confirmed this content */
	le32 state; /* enum wire_state */
	le32 zero;
};

struct wire_fetch {
	struct wire_info info;
	le64 change; /* of the slot, as it was when the reply was made */
	le32 slot; /* GENFILE_NO_SLOT: none, WATCH or FETCH tell */
	le32 zero;
};

struct wire_accepted {
	le64 n_keys;
	le64 digest;
};

struct wire_list {
	le64 generation;
	le64 cursor;
};

struct wire_entry {
	le64 modify_index;
	le64 flags;
	le32 value_len;
	le16 key_len;
	uint8_t layer;
	uint8_t zero;
};

#define WIRE_EXPLAIN_PUBLISHED 0x1u /* what counts is what clients read now */
#define WIRE_EXPLAIN_OVERRIDDEN 0x2u /* what counts is not a layer's: an operator said it */
#define WIRE_EXPLAIN_UNDER_WAY 0x4u /* a publication is: ask again to see what becomes of it */
#define WIRE_EXPLAIN_WITHHELD 0x8u /* the newest breaks the schema: clients read the last good */

struct wire_explain {
	le64 generation;
	le32 state; /* enum wire_state of the service */
	le32 flags; /* WIRE_EXPLAIN_… */
};

#define WIRE_LAYER_WINS 0x1u /* its value counts */
#define WIRE_LAYER_LOCKED 0x2u /* the key is locked: the lowest layer that has it counts */

struct wire_layer {
	le64 index; /* Consul's, of the layer */
	le64 modify_index; /* of the key */
	le64 age_usec; /* since the source last confirmed the layer; UINT64_MAX: it has no contents
			*/
	le32 value_len; /* WIRE_ABSENT: the layer does not have the key */
	le32 sent_len; /* bytes of the value that follow, at most LIMIT_EXPLAIN_VALUE */
	le16 prefix_len;
	uint8_t state; /* enum wire_state */
	uint8_t flags; /* WIRE_LAYER_… */
	le32 zero;
};

_Static_assert(sizeof(struct wire_explain) == 16, "wire layout");
_Static_assert(sizeof(struct wire_layer) == 40, "wire layout");
_Static_assert(sizeof(struct wire_header) == 12, "wire layout");
_Static_assert(sizeof(struct wire_hello_reply) == 12, "wire layout");
_Static_assert(sizeof(struct wire_info) == 40, "wire layout");
_Static_assert(sizeof(struct wire_fetch) == 56, "wire layout");
_Static_assert(sizeof(struct wire_entry) == 24, "wire layout");
_Static_assert(sizeof(struct wire_accepted) == 16, "wire layout");

/* A request taken apart; the pointers are into the payload. Fields unused by the op are 0. */
struct wire_request {
	uint64_t generation;
	uint64_t cursor;
	uint64_t digest;
	const char *service;
	size_t service_len;
	const char *key; /* GET: key; LIST: prefix; STATUS: text; MGET: the encoded keys */
	size_t key_len;
	const char *reason; /* PIN */
	size_t reason_len;
	const char *value; /* PIN */
	size_t value_len;
	uint64_t duration_usec; /* PIN */
	uint32_t timeout_ms;
	uint16_t min_major, max_major, image_major;
	uint8_t what;
	bool has_digest;
};

struct wire_header wire_header_of(size_t length, unsigned op, unsigned status, uint32_t tag);

/* Bytes of a whole request frame, header included; -EBADMSG: above LIMIT_FRAME, or no request. */
ssize_t wire_request_size(const struct wire_header *header);

/* Takes a request's payload apart. 0; -EBADMSG: malformed; -EOPNOTSUPP: unknown op. Names and
 * keys are not judged here. */
int wire_parse(unsigned op, const void *payload, size_t len, struct wire_request *ret_request);

/* The next key of an MGET request, *cursor from 0. 1, 0 at the end, -EBADMSG. */
int wire_next_key(
	const struct wire_request *request, size_t *cursor, const char **ret_key, size_t *ret_len);

/* The next entry of a LIST reply's payload, *cursor from sizeof(struct wire_list). 1, 0, -EBADMSG.
 * Key and value are not NUL-terminated. */
struct record;
int wire_next_entry(const void *payload, size_t len, size_t *cursor, struct record *ret_entry);

/* A layer of an EXPLAIN reply; the pointers are into the payload, not NUL-terminated. */
struct wire_layer_entry {
	const char *prefix;
	const char *value; /* NULL: the layer does not have the key */
	size_t prefix_len, value_len, sent_len;
	uint64_t index, modify_index, age_usec;
	unsigned state, flags;
};

/* The next layer, *cursor from sizeof(struct wire_explain). 1, 0 at the end, -EBADMSG. */
int wire_next_layer(
	const void *payload, size_t len, size_t *cursor, struct wire_layer_entry *ret_layer);

/*
 * Encodes a whole request frame into buf. Returns its length; -EMSGSIZE when it does not fit into
 * size or LIMIT_FRAME, or a service name into its length byte; -EOPNOTSUPP: unknown op. An op
 * takes from `request` what its comment above names.
 */
ssize_t wire_encode(
	unsigned op, uint32_t tag, const struct wire_request *request, void *buf, size_t size);

const char *wire_state_name(unsigned state);

/* Of several states the one that is shown: frozen > held > loading > backup > stale > live. */
bool wire_state_is_worse(enum wire_state a, enum wire_state b);
